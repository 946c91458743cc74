"""How the figures of a comparison are written."""

from collections.abc import Sequence
from typing import Any

from preplay.text import interval_text


def figure_text(value: float) -> str:
    """A return for people: whole where it is large."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def range_text(interval: Sequence[float | None], value: float) -> str:
    """An interval, with as many digits as the value that it belongs to; a dash where there is none."""
    size = abs(value)
    return interval_text(interval, 0 if size >= 100 else 1 if size >= 1 else 2)


def share_text(share: float | None) -> str:
    """A share as per cent; nothing for None."""
    return "" if share is None else f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def milliseconds_text(row: dict[str, Any]) -> list[str]:
    """Median and 95th percentile of a row."""
    return [
        f"{x:.2f}" if x < 1 else f"{x:.1f}" if x < 100 else f"{x:.0f}"
        for x in (row["milliseconds"]["p50"], row["milliseconds"]["p95"])
    ]
