"""Option types that several commands share, named for people in the help."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

TaskName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
OptionalFolders = Annotated[
    tuple[Path, ...] | None, tyro.conf.arg(metavar="FOLDER [FOLDER ...]", help_behavior_hint="")
]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """What an option is set to, before the arguments are parsed: the last time, as then; None when it isn't there."""
    found = None
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            found = arguments[i + 1]
        if argument.startswith(f"{option}="):
            found = argument.removeprefix(f"{option}=")
    return found
