"""Drawing sequences: which decisions they begin at, where their rows lie, and the batch they make."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agent.errors import ExperienceError
from agent.experience.batch import Batch
from agent.experience.loading import ungapped
from agent.experience.priorities import Priorities
from agent.experience.records import FRAME_WORDS
from agent.experience.segment import Segment
from agent.experience.table import Table


@dataclass(frozen=True)
class Spans:
    """Decisions that can be drawn: from each of some segments those numbered [first, last).

    Attributes:
        segments: in order.
        first: (S,) absolute numbers.
        last: (S,).
    """

    segments: list[Segment]
    first: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return int(np.maximum(self.last - self.first, 0).sum())

    @property
    def oldest(self) -> int:
        """The number of the first of them; 0 when there is none."""
        return int(self.first[0]) if self.segments else 0

    def within(self, first: int, last: int) -> "Spans":
        """What of them lies in [first, last); segments of which nothing does are left out."""
        low, high = np.maximum(self.first, first), np.minimum(self.last, last)
        some = np.flatnonzero(low < high)
        if len(some) == len(self.segments):
            return Spans(self.segments, low, high)
        return Spans([self.segments[i] for i in some], low[some], high[some])


class Sampler:
    """Gathers sequences, into memory that is used again and again."""

    def __init__(self) -> None:
        self._rows = np.empty((0, 0), np.float32)

    def sample(
        self,
        spans: Spans,
        table: Table,
        oldest: int,
        total: int,
        batch_size: int,
        length: int,
        rng: np.random.Generator,
        device: torch.device | str,
        priorities: Priorities | None,
    ) -> Batch:
        """See `Experience.sample`.

        Args:
            spans: none of them empty. Nothing beyond them is seen.
            table: of the episodes that lie in them.
            oldest: number of the oldest decision that isn't evicted.
            total: decisions ever stored.
            batch_size: sequences.
            length: decisions of each.
            rng: where they begin.
            device: where the batch goes.
            priorities: None makes all decisions equally likely to be first.
        """
        if batch_size < 1 or length < 1:
            raise ValueError(f"{batch_size} sequences of {length} decisions can't be sampled; both are at least 1")
        if not spans.segments:
            raise ValueError("the experience is empty: there is no decision to sample")
        header = spans.segments[0].header
        for segment in spans.segments:
            other = segment.header
            if (other.observation_dim, other.action_dim) != (header.observation_dim, header.action_dim):
                raise ExperienceError(
                    f"the experience holds decisions of different sizes ({header.observation_dim} and "
                    f"{other.observation_dim} observation elements, {header.action_dim} and {other.action_dim} of "
                    "actions); sample within those of one task"
                )
        # In the order in which they lie in memory, which is quicker to gather and makes no difference to who learns.
        starts, probabilities = _draw(spans, oldest, total, batch_size, rng, priorities)
        bounds = np.append(np.searchsorted(starts, spans.first), batch_size)  # where each span's begin among them
        last = np.repeat(spans.last, np.diff(bounds))
        episode = np.searchsorted(table.first[: table.size], starts, side="right") - 1
        offset = starts - table.first[episode]
        end = np.minimum(table.decisions[episode] - offset, last - starts)
        real = np.minimum(end, length)
        # Padding repeats the last real decision, so that what is computed for it stays in the data's range.
        resets = table.row[episode][:, None]
        index = resets + offset[:, None] + np.minimum(np.arange(length + 1), real[:, None])
        rows = self._gather(spans.segments, bounds, index, resets).reshape(batch_size, length + 1, header.words)
        a, o = header.action_dim, FRAME_WORDS + header.observation_dim
        after = rows[:, 1:]
        flags = after[:, :, 2].view(np.uint32)
        return Batch(
            _tensor(rows[:, :, FRAME_WORDS:o].swapaxes(0, 1), device),
            _tensor(after[:, :, o : o + a].swapaxes(0, 1), device),
            _tensor(after[:, :, -1].T, device),
            _tensor((flags >> 8 & 1).T, device),
            _tensor(np.arange(length)[:, None] < real, device),
            starts,
            probabilities,
        )

    def _gather(self, segments: list[Segment], bounds: np.ndarray, index: np.ndarray, resets: np.ndarray) -> np.ndarray:
        """(M * (T+1), words) the rows at `index` (M, T+1); the k-th segment's sequences begin at `bounds[k]`."""
        count, width, words = index.size, index.shape[1], segments[0].header.words
        if self._rows.shape[1] != words or len(self._rows) < count:
            self._rows = np.empty((count, words), np.float32)
        out = self._rows[:count]
        for segment, begin, end in zip(segments, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            part = index[begin:end]
            if segment.gaps:
                part = ungapped(part, resets[begin:end], segment.gaps)
            np.take(segment.matrix, part.ravel(), axis=0, out=out[begin * width : end * width], mode="clip")
        return out


def _draw(
    spans: Spans, oldest: int, total: int, batch_size: int, rng: np.random.Generator, priorities: Priorities | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the first decisions, ascending, and the probabilities with which they were drawn."""
    if priorities is not None:
        starts, probabilities = priorities.draw(spans.first, spans.last, oldest, total, batch_size, rng)
        order = np.argsort(starts)
        return starts[order], probabilities[order]
    sizes = spans.last - spans.first
    ends = np.cumsum(sizes)
    drawn = np.sort(rng.integers(ends[-1], size=batch_size))
    place = np.searchsorted(ends, drawn, side="right")
    return drawn - (ends - sizes)[place] + spans.first[place], np.full(batch_size, 1 / ends[-1])


def _tensor(values: np.ndarray, device: torch.device | str) -> Tensor:
    """A float32 copy in memory that torch allocated, whose alignment torch's results may depend on."""
    tensor = torch.empty(values.shape)
    tensor.numpy()[...] = values
    return tensor.to(device)
