"""The command line: one dataclass a command, from which tyro makes the options and the help."""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

# One thread a process unless the user says otherwise; it must be set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from preplay.errors import fail, one_sentence
from preplay.output import nothing_but_the_object

MORE = "pip install 'preplay[train]'"
try:
    import tyro
except ModuleNotFoundError:
    fail(f"the commands need more packages: {MORE}")

# Command: where its class is, and what it does. Only the command that is run gets imported.
COMMANDS = {
    "run": ("preplay.run:Run", "play benchmark episodes with a trained agent"),
    "train": ("preplay.train:Train", "train an agent on a task"),
    "experience": (
        "preplay.experience:ExperienceCommand",
        "say what a store of experience holds; check, merge, exchange it",
    ),
    "tasks": ("preplay.tasks:Tasks", "list the tasks and the shipped agents"),
    "doctor": ("preplay.doctor:Doctor", "say what works on this machine, how fast, and what to do about the rest"),
    "compare": ("preplay.compare:Compare", "play a task with many planners and write a report that says which is best"),
    "verify": ("preplay.verify:Verify", "play episodes of a comparison again and compare their hashes"),
    "demo": ("preplay.demo:Demo", "play the shipped agents beside their controls and write a report"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. Exit code 0 when it did its job, 2 for a user's mistake."""
    # Whoever is stopped still tidies up: half a film, a run that stored nothing, worker processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A console script doesn't look for modules where the user stands. Last, so that nobody's `envs` hides ours.
    sys.path.append(os.getcwd())
    try:
        _main(arguments)
    except KeyboardInterrupt:
        print("preplay: stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _main(arguments: Sequence[str] | None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        from preplay import __version__

        print(f"preplay {__version__}")
        return
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        from planners.errors import nearest  # loads torch, which --help need not wait for

        fail(f"unknown command {name!r}; {nearest(name, COMMANDS)}")
    with one_sentence():
        module, _, attribute = COMMANDS[name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in ("agent", "envs", "planners", "preplay"):
                raise
            fail(f"preplay {name} needs more packages, {error.name} to begin with: {MORE}")
        job = parse(command, name, rest)
        with nothing_but_the_object() if job.json else contextlib.nullcontext():
            job()


def parse(command: type, name: str, arguments: list[str], program: str = "preplay") -> Any:
    """The command's dataclass, filled from its arguments.

    A command that wants other defaults for other arguments has a class method `defaults(arguments)`. `program` is what
    the command belongs to.
    """
    options: dict[str, Any] = {
        "prog": f"{program} {name}",
        "args": arguments,
        "config": (tyro.conf.FlagCreatePairsOff,),
    }
    if hasattr(command, "defaults"):
        options["default"] = command.defaults(arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(_Reworded(sys.stdout)):
            return tyro.cli(command, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
    fail(f"{_sentence(said.getvalue())}; see {program} {name} --help")


class _Reworded:
    """Standard output, where tyro's `{None}|INT` reads `INT | None`; as long as it was, for the box around it."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def write(self, text: str) -> int:
        return self._real.write(re.sub(r"\{None\}\|(\w+)", r"\1 | None", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _overview() -> str:
    lines = [
        "usage: preplay COMMAND [OPTIONS]",
        "",
        "Plan before you move: planning agents for simulated robotics.",
        "",
    ]
    lines += [f"  {name:10} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([*lines, "", "preplay COMMAND --help says more about each."])


def _sentence(box: str) -> str:
    """What tyro says in a box of several lines, as one sentence."""
    # The box's title, at its upper edge, only repeats the kind of mistake.
    lines = [re.sub(r"[│┃|─━]", "", line).strip() for line in box.splitlines() if not re.match(r"\s*[╭╰]", line)]
    text = re.sub(r" *-{5,} *", " ", " ".join(line for line in lines if line))
    near = re.search(r"Perhaps you meant: (--\S+)", text)
    text = re.split(r" (?:Perhaps you meant|For full helptext|For more|Argument helptext)", text)[0]
    text = re.sub(r"^(Missing from [^:]+: \S+).*", r"\1", text)
    text = re.sub(r"^Error parsing ", "", text).strip().rstrip(".:")
    text = text[:1].lower() + text[1:] if text else "the arguments make no sense"
    return f"{text}; did you mean {near[1]}?" if near else text


if __name__ == "__main__":
    main()
