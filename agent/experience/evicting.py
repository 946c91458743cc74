"""Which decisions can be sampled, and when a segment is full."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.experience.records import HEADER_BYTES
from agent.experience.reservoir import kept
from agent.experience.sampling import Spans
from agent.experience.segment import Segment

# A reservoir of fewer segments than this would forget in too large pieces.
_SLOTS = 32


@dataclass(frozen=True)
class Eviction:
    """See the arguments of `Experience`."""

    capacity: int | None
    evict: Literal["oldest", "reservoir"]
    segment_bytes: int

    def window(self, total: int) -> int:
        """The absolute number below which decisions are evicted for their age, when there are so many."""
        return max(total - self.capacity, 0) if self.capacity is not None and self.evict == "oldest" else 0

    def spans(self, segments: list[Segment]) -> Spans:
        """All decisions of the segments that are kept, before any is evicted for its age."""
        numbers = self._kept(segments[-1]) if segments else None
        alive = [s for s in segments if numbers is None or s.number in numbers]
        first, last = [s.header.first for s in alive], [s.last for s in alive]
        return Spans(alive, np.array(first, np.int64), np.array(last, np.int64))

    def holds(self, segments: list[Segment], newest: Segment) -> bool:
        """Whether all that could be sampled when `newest` was the newest is still among some segments."""
        if self.capacity is None:
            return True
        numbers = self._kept(newest)
        if numbers is None:
            return self.window(newest.last) >= segments[0].header.first
        return numbers <= {s.number for s in segments}

    def is_full(self, segment: Segment) -> bool:
        """Whether the next episode begins another segment."""
        return segment.bytes >= self.segment_bytes or segment.rows >= self._most_rows(segment.header.words)

    def _kept(self, newest: Segment) -> set[int] | None:
        """The segments that are kept while this one is the newest; None for all."""
        if self.capacity is None or self.evict == "oldest":
            return None
        slots = max(self.capacity // self._most_rows(newest.header.store_words), 1)
        return kept(newest.header.seed, slots, range(1, newest.number)) | {newest.number}

    def _most_rows(self, words: int) -> int:
        """Rows of so many words that fill a segment."""
        rows = max((self.segment_bytes - HEADER_BYTES) // (4 * words), 1)
        if self.capacity is not None and self.evict == "reservoir":
            rows = min(rows, max(self.capacity // _SLOTS, 1))
        return rows
