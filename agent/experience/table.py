"""The table of all episodes in a store: where each lies, and which decisions are its own."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Notes:
    """What is known of an episode besides numbers that sampling needs."""

    task: str
    seed: int | None
    action_repeat: int
    extra: dict[str, Any]
    actors: dict[str, int] = field(default_factory=dict)


class Table:
    """Columns, one row an episode in the order of their decisions, grown by doubling.

    Attributes:
        size: episodes.
        notes: of each.
        number: of each episode, counted from the store's beginning.
        first: absolute number of its first decision.
        decisions: how many it has.
        segment: number of the segment that it lies in.
        row: of its first observation in that segment.
        terminated: whether its last decision ended it for good.
        truncated: whether its last decision was where it was cut off.
        returns: sum of its rewards, added up one after another in float64.
    """

    COLUMNS = ("number", "first", "decisions", "segment", "row", "terminated", "truncated", "returns")

    def __init__(self) -> None:
        self.size = 0
        self.notes: list[Notes] = []
        self.number, self.first, self.decisions, self.segment, self.row = (np.zeros(64, np.int64) for _ in range(5))
        self.terminated, self.truncated = np.zeros(64, bool), np.zeros(64, bool)
        self.returns = np.zeros(64, np.float64)

    def append(self, number: int, first: int, segment: int, row: int, notes: Notes) -> None:
        """Begins an episode."""
        if self.size == len(self.number):
            for name in self.COLUMNS:
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        i = self.size
        self.number[i], self.first[i], self.segment[i], self.row[i] = number, first, segment, row
        self.decisions[i], self.returns[i] = 0, 0.0
        self.terminated[i] = self.truncated[i] = False
        self.notes.append(notes)
        self.size += 1

    def copy(self, other: "Table", segment: int) -> None:
        """Enters the episodes that another table has of a segment."""
        part = other.of(segment)
        for i in range(part.start, part.stop):
            self.append(int(other.number[i]), int(other.first[i]), segment, int(other.row[i]), other.notes[i])
            for name in ("decisions", "terminated", "truncated", "returns"):
                getattr(self, name)[self.size - 1] = getattr(other, name)[i]

    def keep(self, segments: set[int]) -> None:
        """Drops the episodes of all other segments."""
        kept = np.isin(self.segment[: self.size], list(segments))
        if kept.all():
            return
        for name in self.COLUMNS:
            column = getattr(self, name)
            short = column[: self.size][kept]
            column[: len(short)] = short
        self.notes = [notes for notes, keeps in zip(self.notes, kept, strict=True) if keeps]
        self.size = len(self.notes)

    def of(self, segment: int) -> slice:
        """The rows that belong to a segment."""
        begin, end = np.searchsorted(self.segment[: self.size], [segment, segment + 1])
        return slice(int(begin), int(end))

    def find(self, number: int) -> int | None:
        """The row of an episode; None when it isn't there."""
        i = int(np.searchsorted(self.number[: self.size], number))
        return i if i < self.size and self.number[i] == number else None
