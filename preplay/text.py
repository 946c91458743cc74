"""How results are put into words and file names."""

import re
from collections.abc import Sequence
from pathlib import Path

# What planners and controls are called in tables and pictures; others go by their own names.
LABELS = {
    "mppi": "MPPI",
    "cem": "CEM",
    "icem": "iCEM",
    "cmaes": "CMA-ES",
    "policy": "policy prior",
    "random": "random actions",
}


def interval_text(interval: Sequence[float | None], digits: int = 0) -> str:
    """An interval for people; a dash where there is none."""
    low, high = interval
    return "–" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def place(folder: Path) -> str:
    """A folder as results name it: seen from where the user stands, when it lies in there."""
    folder, here = folder.resolve(), Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def file_name(task: str) -> str:
    """A task's name as part of a path: ids may hold slashes and colons."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", task)
