"""How results are put into words and file names."""

import re
from collections.abc import Sequence


def interval_text(interval: Sequence[float | None], digits: int = 0) -> str:
    """An interval for people; a dash where there is none."""
    low, high = interval
    return "–" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def file_name(task: str) -> str:
    """A task's name as part of a path: ids may hold slashes and colons."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", task)
