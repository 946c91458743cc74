"""How much faster training is compiled, and with acting and learning overlapped on two cores, than a plain loop on one.

python benchmarks/training.py
python benchmarks/training.py --preset base --overlaps 8 32 --matmul-precision medium

Every run is a process of its own, and they take turns, so that a slow minute of the machine falls on all alike: each
round trains in turn and with each overlap, as it is and compiled. A run begins with random decisions and the updates
for them (`--random-steps`), in which compiling takes place, too; what is timed are the `--decisions` after those, with
everything that belongs to training but evaluation. The ratios are of environment steps a second, to the run in turn of
the same round. Milliseconds of a plan and of an update are each on its own thread, so when both are at work at once
they are longer than in turn.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

# One thread for each thing at once, set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tyro
from rich.console import Console
from rich.table import Table

import envs
from agent import PRESETS, AgentInfo, Progress, TrainConfig, Trainer, TrainingStopped
from agent.config import to_dict
from agent.files import write_atomically
from preplay.errors import UsageError, one_sentence
from preplay.options import value_of
from preplay.provenance import provenance

SETTLING = 64  # decisions between the random ones and those that are timed


@dataclass(frozen=True)
class Training:
    """Time training in turn and overlapped, plain and compiled, in processes that alternate."""

    task: str = "walker-run"
    """A task of the DeepMind Control suite, or of Gymnasium."""
    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the agent. Any setting of training can be given, too."""
    overlaps: tuple[int, ...] = (16,)
    """Decisions in a stretch, as --overlap of preplay train takes them; each is measured."""
    compiled: tuple[bool, ...] = (False, True)
    """Whether torch compiles, as --compile of preplay train lets it; each is measured."""
    rounds: int = 5
    """How many times each is measured."""
    decisions: int = 400
    """How many are timed, at least, each time."""
    out: Path = Path("benchmarks/results/training.json")
    """Where the figures are written."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def defaults(arguments: list[str]) -> Training:
    """The defaults are the preset's, so it has to be known before other options."""
    name = value_of(arguments, "--preset") or "small"
    # A name that doesn't exist is refused later, when all options are read.
    return Training(config=replace(PRESETS.get(name, TrainConfig()), random_steps=500, device="cpu"))


def main(options: Training) -> None:
    """Measures, prints a table and writes it down."""
    if min(options.rounds, options.decisions) < 1 or not options.overlaps or min(options.overlaps) < 1:
        raise UsageError("--rounds, --decisions and each of --overlaps must be at least 1")
    if not options.config.updates_per_decision:
        raise UsageError("--updates-per-decision is 0; updates are what is timed")
    if options.config.overlap or options.config.compile or options.config.offline:
        raise UsageError(
            "--overlaps and --compiled say what to measure, in place of --overlap and --compile; and --offline has "
            "nothing to overlap"
        )
    plain = 0, False
    ways = [plain, *((overlap, compiled) for compiled in options.compiled for overlap in (0, *options.overlaps))]
    found: dict[tuple[int, bool], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for (overlap, compiled), figures in found.items():
            # A process that has just begun, each time.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                config = replace(options.config, overlap=overlap, compile=compiled)
                figures.append(pool.submit(measure, options.task, config, options.decisions).result())
    rows = []
    for (overlap, compiled), figures in found.items():
        ratios = [each["speed"] / alone["speed"] for each, alone in zip(figures, found[plain], strict=True)]
        rows.append(
            {
                "overlap": overlap,
                "compiled": compiled,
                "steps_per_second": spread([each["speed"] for each in figures]),
                "ratio": spread(ratios),
                "milliseconds_per_plan": spread([each["plan"] for each in figures]),
                "milliseconds_per_update": spread([each["update"] for each in figures]),
            }
        )
    sizes = {"task": options.task, "preset": options.preset, "rounds": options.rounds, "decisions": options.decisions}
    result = sizes | {"rows": rows, "config": to_dict(options.config)} | provenance()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode())
    show(result)


def spread(values: list[float]) -> dict[str, Any]:
    """The median of some figures, the smallest and the largest, and all of them in the order they were taken."""
    return {"median": median(values), "min": min(values), "max": max(values), "all": values}


def measure(task: str, config: TrainConfig, decisions: int) -> dict[str, float]:
    """Trains for a while.

    Returns:
        Environment steps a second, and the median milliseconds of a plan and of an update, after the warm-up.
    """
    env, evaluation_env = (envs.make(task) for _ in "ab")
    known = env.get_wrapper_attr("task")
    repeat = known.action_repeat
    info = AgentInfo(known.name, repeat, known.decisions, known.can_terminate, envs.winding_angles(env))
    begin = config.random_steps + SETTLING * repeat
    config = replace(config, steps=10**9, evaluate_every=0, save_every=1e9)
    times: dict[str, list[float]] = {"plan": [], "update": []}
    began: tuple[float, int] | None = None
    speed = 0.0

    def watch(progress: Progress) -> None:
        nonlocal began, speed
        now = time.perf_counter()
        if progress.phase != "collect":
            return
        if began is None:
            if progress.step >= begin:
                began = now, progress.step
                for each in times.values():
                    each.clear()
        elif progress.step - began[1] >= decisions * repeat:
            speed = (progress.step - began[1]) / (now - began[0])
            trainer.stop()

    with TemporaryDirectory() as folder:
        trainer = Trainer(env, evaluation_env, config, info, Path(folder) / "run", watch)
        timed(trainer.agent, "act", times["plan"])
        timed(trainer.learner, "update", times["update"])
        with contextlib.suppress(TrainingStopped):
            trainer.run()
    return {"speed": speed} | {what: 1000 * median(seconds) for what, seconds in times.items()}


def timed(of: object, method: str, seconds: list[float]) -> None:
    """Lets an object's method note how long each call takes."""
    real: Callable[..., Any] = getattr(of, method)

    def noted(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = real(*args, **kwargs)
        seconds.append(time.perf_counter() - began)
        return result

    setattr(of, method, noted)


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    sizes = f"{result['task']}, {result['preset']}: {result['rounds']} rounds of {result['decisions']} decisions"
    console.print(f"{result['machine']}\n{sizes}")
    table = Table("overlap", "compiled", "steps/s", "ratio", "lowest", "highest", "ms a plan", "ms an update", box=None)
    for row in result["rows"]:
        ratio = row["ratio"]
        table.add_row(
            str(row["overlap"] or "in turn"),
            "yes" if row["compiled"] else "no",
            f"{row['steps_per_second']['median']:.1f}",
            *(f"{ratio[key]:.2f}" for key in ("median", "min", "max")),
            f"{row['milliseconds_per_plan']['median']:.1f}",
            f"{row['milliseconds_per_update']['median']:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Training, default=defaults(sys.argv[1:]), config=(tyro.conf.FlagCreatePairsOff,)))
