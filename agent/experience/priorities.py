"""Proportional prioritised replay (Schaul et al. 2015, arXiv 1511.05952)."""

import math

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

_LARGEST = 1e100
_BAND = 0.9  # the factor between one band of ages and the next
_LEAST = 1e-6  # a floor lower than this
MOST_LEAVES = 2**28  # leaves, before any memory is taken for them


class Priorities:
    """How likely each decision is to be sampled, relative to the others: a sum tree over their absolute numbers.

    A decision that nobody set enters with the largest priority so far, 1 at first. Decisions that are evicted or lie
    outside of what is asked for weigh nothing. Priorities are taken as they are; whoever wants the paper's exponent
    alpha applies it before, and corrects for the bias with `Batch.probabilities`.

    Args:
        fade: factor on a decision's priority for each one stored since, in (0, 1], in steps of about a tenth.
        floor: where that factor stops falling.
    """

    def __init__(self, fade: float = 1.0, floor: float = 0.0) -> None:
        self._edges = _edges(fade, floor)
        # Of a band of ages, the factor at its middle; beyond the last edge, the one there.
        middles = (self._edges[:-1] + self._edges[1:]) / 2
        self._factors = np.maximum(fade ** np.append(middles, self._edges[-1]), floor)
        self._base = 0  # number of the first leaf's decision
        self._known = 0  # leaves in use
        self._largest = 1.0
        self._size = 64
        # Node i is the sum of nodes 2i and 2i+1; the leaves begin at `_size`.
        self._tree = np.zeros(2 * self._size)

    def __len__(self) -> int:
        """Decisions that it knows of."""
        return self._known

    def set(self, numbers: ArrayLike, values: ArrayLike) -> None:
        """Sets the priorities of some decisions; of one that is named twice the last value holds.

        Args:
            numbers: (M,) absolute numbers, such as `Batch.starts`. Those that were evicted meanwhile are ignored.
            values: (M,) priorities, above 0 and at most 1e100.

        Raises:
            ValueError: for a value or a number that can't be; then nothing is set.
        """
        wanted, values = np.asarray(numbers), np.asarray(values, np.float64)
        if wanted.ndim != 1 or wanted.shape != values.shape or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ValueError("priorities take as many values as numbers of decisions, which are whole numbers")
        if not ((values > 0) & (values <= _LARGEST)).all():  # false for NaN as well
            raise ValueError(f"a priority must be above 0 and at most {_LARGEST:g}")
        if not wanted.size:
            return
        if wanted.min() < 0 or wanted.max() >= self._base + MOST_LEAVES:
            raise ValueError("priorities were given for a decision that can't exist")
        wanted = wanted.astype(np.int64)
        self._extend(self._base, int(wanted.max()) + 1)
        leaves = wanted - self._base
        held = leaves >= 0
        self._tree[leaves[held] + self._size] = values[held]
        self._sum_up(np.unique(leaves[held]))
        self._largest = max(self._largest, float(values.max()))

    def draw(
        self,
        first: Int64[np.ndarray, " S"],
        last: Int64[np.ndarray, " S"],
        oldest: int,
        total: int,
        batch_size: int,
        rng: np.random.Generator,
    ) -> tuple[Int64[np.ndarray, " M"], Float64[np.ndarray, " M"]]:
        """Draws decisions, each with the probability that is its priority's share.

        Args:
            first: (S,) beginnings of the spans of decisions to draw from, in order; none of them is empty.
            last: (S,) their ends, exclusive.
            oldest: number of the oldest decision that isn't evicted.
            total: decisions ever stored. What is known of later ones, from before a rewind, is forgotten.
            batch_size: decisions to draw.
            rng: one number is drawn from it for each.

        Returns:
            Their absolute numbers, and the probability that each was drawn with.
        """
        self._forget(total)
        self._extend(oldest, total)
        first, last, factors = self._banded(first, last, total)
        low, high = self._prefix(first - self._base), self._prefix(last - self._base)
        # Rounding must not make a span's weight negative.
        ends = np.cumsum(np.maximum(high - low, 0) * factors)
        target = rng.random(batch_size) * ends[-1]
        span = np.minimum(np.searchsorted(ends, target, side="right"), len(ends) - 1)
        target = (target - np.concatenate([[0.0], ends[:-1]])[span]) / factors[span] + low[span]
        node = np.ones(batch_size, np.int64)
        for _ in range(self._size.bit_length() - 1):
            node *= 2
            left = self._tree[node]
            right = target >= left
            target -= left * right
            node += right
        # Rounding may lead past a span's edge, by a leaf that is as good as any there.
        leaf = np.clip(node - self._size, first[span] - self._base, last[span] - self._base - 1)
        return leaf + self._base, self._tree[leaf + self._size] * factors[span] / ends[-1]

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays."""
        return {
            "base": np.array([self._base], np.int64),
            "largest": np.array([self._largest]),
            "values": self._tree[self._size : self._size + self._known].copy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`.

        Raises:
            ValueError: when it is none; then nothing changes.
        """
        try:
            base, largest, values = (np.asarray(state[key]) for key in ("base", "largest", "values"))
            right = (
                base.shape == (1,)
                and base.dtype.kind in "iu"
                and base[0] >= 0
                and largest.shape == (1,)
                and 0 < largest[0] <= _LARGEST
                and values.ndim == 1
                and len(values) <= MOST_LEAVES
                and bool(((values > 0) & (values <= _LARGEST)).all())
            )
        except (KeyError, TypeError, ValueError):
            right = False
        if not right:
            raise ValueError("this is no state of priorities")
        self._rebuild(int(base[0]), values.astype(np.float64))
        self._largest = float(largest[0])

    def _banded(self, first: np.ndarray, last: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spans cut where the factor of a decision's age changes, and the factor of each."""
        cuts = total - self._edges[1:][::-1]
        inside = cuts[np.searchsorted(last, cuts, side="right") < np.searchsorted(first, cuts, side="left")]
        first, last = np.union1d(first, inside), np.union1d(last, inside)
        band = np.searchsorted(self._edges, total - last, side="right") - 1
        return first, last, self._factors[band]

    def _extend(self, first: int, total: int) -> None:
        """Makes all decisions up to `total` known. When there is no room, those before `first` are forgotten."""
        if not self._known:
            self._base = first
        elif first < self._base:  # after a rewind
            again = np.full(self._base - first, self._largest)
            self._rebuild(first, np.concatenate([again, self._tree[self._size : self._size + self._known]]))
        fresh = total - self._base - self._known
        if fresh <= 0:
            return
        # Always one leaf more than there are decisions, so that the sum before any of them is that before some leaf.
        if self._known + fresh >= self._size:
            skipped = min(max(first - self._base, 0), self._known)
            values = self._tree[self._size + skipped : self._size + self._known]
            base = self._base + skipped
            self._rebuild(base if len(values) else max(base, first), values, room=total - base)
            fresh = total - self._base - self._known
        leaves = np.arange(self._known, self._known + fresh)
        self._tree[leaves + self._size] = self._largest
        self._known += fresh
        self._sum_up(leaves)

    def _forget(self, total: int) -> None:
        """Forgets what is known of decisions from `total` on."""
        if self._base + self._known > total:
            self._rebuild(self._base, self._tree[self._size : self._size + max(total - self._base, 0)])

    def _rebuild(self, base: int, values: np.ndarray, room: int = 0) -> None:
        size = 64
        while size <= max(room, len(values)):
            size *= 2
        tree = np.zeros(2 * size)
        tree[size : size + len(values)] = values
        while size > 1:
            tree[size // 2 : size] = tree[size : 2 * size : 2] + tree[size + 1 : 2 * size : 2]
            size //= 2
        self._base, self._known, self._tree, self._size = base, len(values), tree, len(tree) // 2

    def _sum_up(self, leaves: np.ndarray) -> None:
        """Adds up again whatever lies above some leaves; in order, so that neighbours share their parents."""
        node = leaves + self._size
        while len(node) and node[0] > 1:
            node = node >> 1
            if len(node) > 1:
                node = node[np.concatenate([[True], node[1:] != node[:-1]])]
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]

    def _prefix(self, leaves: np.ndarray) -> np.ndarray:
        """The sum of all leaves before each of these."""
        node = leaves + self._size
        total = np.zeros(len(leaves))
        while (node > 1).any():
            odd = (node & 1) == 1
            total += np.where(odd & (node > 1), self._tree[node - 1], 0.0)
            node = node >> 1
        return total


def _edges(fade: float, floor: float) -> np.ndarray:
    """Ages, from 0, between which the factor is taken for constant: bands that each make little of a difference.

    Raises:
        ValueError: for factors that can't be.
    """
    if not (0 < fade <= 1 and 0 <= floor <= 1):
        raise ValueError(f"priorities fade by {fade} down to {floor}; expected factors of at most 1")
    if fade == 1:
        return np.zeros(1, np.int64)
    # With no floor, they fade until they hardly count.
    oldest = math.log(max(floor, _LEAST)) / math.log(fade)
    width = max(math.log(_BAND) / math.log(fade), 1)
    return np.unique(np.ceil(np.arange(0, oldest + width, width)).astype(np.int64))
