"""What an open store holds in memory."""

from dataclasses import dataclass, field

import numpy as np

from agent.experience.segment import Segment
from agent.experience.table import Notes, Table


@dataclass(frozen=True)
class Begun:
    """An episode that has no decision yet; it is written with its first one, whose size isn't known before."""

    observation: np.ndarray
    notes: Notes


@dataclass
class Held:
    """Segments, the table of their episodes, and what is known of the newest one.

    Attributes:
        segments: in order; all but the last are sealed.
        table: of their episodes.
        running: the last episode in the table can go on.
        begun: an episode that isn't on disk yet.
        dropped: a sentence for each piece of damage that was met when they were opened.
        cut: the last episode in the table can't go on, but nothing on disk says that it ended.
    """

    segments: list[Segment] = field(default_factory=list)
    table: Table = field(default_factory=Table)
    running: bool = False
    begun: Begun | None = None
    dropped: list[str] = field(default_factory=list)
    cut: bool = False

    @property
    def total(self) -> int:
        """Decisions ever stored."""
        return self.segments[-1].last if self.segments else 0

    @property
    def next_episode(self) -> int:
        """The number of the next episode that is stored."""
        if not self.segments:
            return 0
        newest, table, i = self.segments[-1], self.table, self.table.size - 1
        return int(table.number[i]) + 1 if i >= 0 and table.segment[i] == newest.number else newest.header.episode
