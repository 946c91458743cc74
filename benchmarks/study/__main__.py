"""`python -m benchmarks.study`."""

import importlib
import sys
from collections.abc import Sequence

from planners.errors import nearest
from preplay.cli import parse
from preplay.errors import fail, one_sentence

PROGRAM = "python -m benchmarks.study"
# Command: where its class is, and what it does.
COMMANDS = {
    "train": ("benchmarks.study.train:Train", "train tasks, seeds and variants, and take their curves in"),
    "add": ("benchmarks.study.add:Add", "take in finished runs that were made with preplay train"),
    "report": ("benchmarks.study.report:Report", "make tables and figures anew from the curves"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. Exit code 0 when it did its job, 1 when a run failed, 2 for a user's mistake."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"usage: {PROGRAM} COMMAND [OPTIONS]", ""]
        lines += [f"  {name:8} {what}" for name, (_, what) in COMMANDS.items()]
        print("\n".join(lines))
        return
    name, *rest = arguments
    if name not in COMMANDS:
        fail(f"unknown command {name!r}; {nearest(name, COMMANDS)}")
    module, _, attribute = COMMANDS[name][0].partition(":")
    with one_sentence():
        parse(getattr(importlib.import_module(module), attribute), name, rest, PROGRAM)()


if __name__ == "__main__":
    main()
