"""Option types that several commands share, named for people in the help."""

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
