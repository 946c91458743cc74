"""`preplay doctor`."""

import contextlib
import io
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.markup import escape

from preplay.output import print_object
from preplay.provenance import installed, processor

OK, NOTE, BROKEN = "ok", "note", "broken"
# A controller that decides 50 times a second has this long for each decision.
REAL_TIME = 20.0
# Where the versions that the tests ran with are written, in a checkout.
_TESTED = Path(__file__).parent.parent / "constraints.txt"


@dataclass(frozen=True)
class Check:
    """What was found out about one thing.

    Attributes:
        name: of the thing.
        status: `ok`, `note` (works, but something could be better) or `broken`.
        found: in words.
        advice: what to do; empty where there is nothing to do.
        values: the same for programs.
    """

    name: str
    status: str
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, how fast it is, and what to do about the rest.

    Ends with exit code 1 when something that preplay needs is broken.
    """

    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Looks, and tells."""
        console = Console(stderr=self.json)
        checks = []
        with console.status("looking") if console.is_terminal else contextlib.nullcontext():
            for check in examine():
                checks.append(check)
                if not self.json:
                    show(console, check)
        broken = [check.name for check in checks if check.status == BROKEN]
        if self.json:
            print_object({"healthy": not broken, "checks": [asdict(check) for check in checks]})
        elif broken:
            console.print(f"\nbroken: {', '.join(broken)}")
        else:
            console.print("\nAll that preplay needs works here.")
        if broken:
            raise SystemExit(1)


def show(console: Console, check: Check) -> None:
    """Prints one check."""
    mark = {OK: "[green]ok    [/]", NOTE: "[yellow]note  [/]", BROKEN: "[red]broken[/]"}[check.status]
    console.print(f"{mark} [bold]{check.name:12}[/] {escape(check.found)}", soft_wrap=True)
    if check.advice:
        console.print(f"{'':20}{escape(check.advice)}", soft_wrap=True)


def examine() -> Iterator[Check]:
    """All checks, the quick ones first. One that fails in an unexpected way is itself a finding."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("versions", versions),
        ("disk", disk),
        ("suite", lambda: world("suite", "walker-walk")),
        ("gymnasium", lambda: world("gymnasium", "HalfCheetah-v5")),
        ("rendering", rendering),
        ("device", device),
        ("threads", threads),
        ("agents", agents),
        ("speed", speed),
    ]
    for name, check in checks:
        try:
            # What a broken package prints while it is imported must not get among the findings.
            with contextlib.redirect_stdout(io.StringIO()):
                result = check()
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            result = Check(name, BROKEN, f"{type(error).__name__}: {reason[0]}", "see the versions above")
        yield result


def versions() -> Check:
    """Whether the installed versions are within preplay's bounds, and which of them the tests did not run with."""
    try:
        needed = [Requirement(text) for text in requires("preplay") or []]
    except PackageNotFoundError:
        return Check(
            "versions",
            BROKEN,
            "preplay itself is not installed",
            "install it: pip install -e '.[train]' (or make demo)",
        )
    found: dict[str, str | None] = {"python": platform.python_version()}
    wrong, other = [], []
    tested = _tested()
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate({"extra": "train"}):
            continue
        version = installed(requirement.name)
        found[requirement.name] = version
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'missing'} (needed: {requirement.specifier})")
        elif (known := tested.get(canonicalize_name(requirement.name), version)) != version.partition("+")[0]:
            other.append(f"{requirement.name} {version} (tested: {known})")
    values = {"installed": found, "python": sys.executable}
    if wrong:
        advice = "install the tested set: pip install -c constraints.txt -e '.[train]'"
        return Check("versions", BROKEN, "out of bounds: " + ", ".join(wrong), advice, values)
    main = ", ".join(
        f"{name} {found[name]}" for name in ("torch", "mujoco", "dm-control", "gymnasium") if name in found
    )
    text = f"preplay {installed('preplay')}, Python {found['python']}, {main}"
    if other:
        advice = "if something misbehaves, install the tested set: pip install -c constraints.txt -e '.[train]'"
        return Check("versions", NOTE, f"{text}; not the tested versions: {', '.join(other)}", advice, values)
    return Check("versions", OK, text, values=values)


def _tested() -> dict[str, str]:
    if not _TESTED.exists():
        return {}
    pairs = (line.strip().split("==") for line in _TESTED.read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version.partition("+")[0] for name, version in pairs}


def disk() -> Check:
    """Whether a run fits on the disk."""
    free = shutil.disk_usage(Path.cwd()).free
    text, values = f"{free / 2**30:.1f} GB free here", {"free_bytes": free}
    if free < 2**30:
        return Check("disk", NOTE, text, "a training run writes up to a hundred megabytes; make room", values)
    return Check("disk", OK, text, values=values)


def world(name: str, task: str) -> Check:
    """Whether a family of environments loads and steps."""
    import envs

    env = envs.make(task, seed=0)
    env.reset()
    for _ in range(5):
        env.step(env.action_space.sample())
    env.close()
    return Check(name, OK, f"{task} loads and steps")


def rendering() -> Check:
    """Which backend draws, and how fast."""
    import envs

    try:
        backend = envs.choose_backend()
        speed = envs.render_speed()
    except envs.RenderError as error:
        sentence, _, advice = str(error).partition("; ")
        return Check("rendering", NOTE, f"{sentence} (all but videos works without)", advice)
    values = {"backend": backend, "frames_per_second": round(speed, 1)}
    text = f"{backend}, {speed:.0f} frames of 320 x 240 a second"
    if speed < 50:
        return Check("rendering", NOTE, text, "drawing in software is slow here; film fewer episodes", values)
    return Check("rendering", OK, text, values=values)


def device() -> Check:
    """What `--device auto` takes."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        return Check("device", OK, f"auto takes the GPU, {name}", values={"device": "cuda", "name": name})
    return Check("device", OK, f"auto takes the CPU, {processor()}", values={"device": "cpu", "name": processor()})


def threads() -> Check:
    """Threads a process, and cores."""
    from agent.processes import available_cores

    cores, setting = available_cores(), os.environ.get("OMP_NUM_THREADS")
    values = {"cores": cores, "omp_num_threads": setting}
    text = f"{cores} cores, one torch thread a process"
    if setting not in (None, "1"):
        advice = "several threads slow small networks down; unset OMP_NUM_THREADS"
        return Check("threads", NOTE, f"{cores} cores, and OMP_NUM_THREADS is {setting}", advice, values)
    return Check("threads", OK, text, values=values)


def agents() -> Check:
    """Whether the agents that ship can be loaded."""
    from agent import Agent
    from preplay.shipped import shipped

    known = shipped()
    for folder in known.values():
        Agent.load(folder, "cpu")
    if not known:
        return Check("agents", NOTE, "none ship with this installation", "train one: preplay train walker-walk")
    return Check("agents", OK, ", ".join(known), values={name: str(folder) for name, folder in known.items()})


def speed() -> Check:
    """Milliseconds a plan for each preset, beside what a 50 Hz controller has."""
    from agent import PRESETS
    from preplay.timing import plan_milliseconds

    plans = {name: plan_milliseconds(config) for name, config in PRESETS.items()}
    medium = plan_milliseconds(PRESETS["small"], matmul_precision="medium")
    gain = plans["small"]["p50"] / medium["p50"]
    values = {"milliseconds": plans, "real_time": REAL_TIME, "medium_precision_gain": round(gain, 2)}
    parts = [
        f"{name} {ms['p50']:.1f} ms a plan{'' if ms['p95'] <= REAL_TIME else ' (too slow)'}"
        for name, ms in plans.items()
    ]
    text = f"{', '.join(parts)}; a 50 Hz controller has {REAL_TIME:.0f} ms"
    advice = []
    if gain > 1.2:
        advice.append(
            f"--matmul-precision medium makes plans of small {gain:.1f} times faster here ({medium['p50']:.1f} ms)"
        )
    if min(plans["small"]["p95"], medium["p95"]) > REAL_TIME:
        advice.append("for real time, plan with fewer --samples or --iterations, or train --preset tiny")
    return Check("speed", OK, text, "; ".join(advice), values)
