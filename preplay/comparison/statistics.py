"""What the episodes of a comparison say: means and their intervals, who beats whom, what plans promise and keep."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import Episodes, bootstrap_interval
from preplay.comparison.cells import Cell

# Rows of the matrix of who beats whom; more can't be read.
MOST_ROWS = 20


def row(cell: Cell, episodes: Episodes, discount: float, horizon: int) -> dict[str, Any]:
    """One cell's results as plain values.

    Args:
        cell: what was played.
        episodes: all of its episodes.
        discount: of the agent, per decision.
        horizon: decisions that the cell's plans look ahead.
    """
    decisions = sum(episodes.lengths)
    return {
        "cell": cell.to_dict(),
        "name": cell.name,
        "mean_return": episodes.mean_return,
        "interval": list(episodes.interval),
        "milliseconds": episodes.percentiles(),
        "candidates": sum(episodes.evaluations) / decisions,
        "misses": sum(episodes.misses) / decisions if cell.timed else None,
        "smoothness": float(np.mean(episodes.smoothness)),
        "saturated": float(np.mean(episodes.saturated)),
        "promise": None if cell.control else promise(cell, episodes, discount, horizon),
        "terminated": sum(episodes.terminated),
        "unstable": sum(episodes.unstable),
        "seeds": episodes.seeds,
        "returns": episodes.returns,
        "lengths": episodes.lengths,
        "digests": episodes.digests,
    }


def promise(cell: Cell, episodes: Episodes, discount: float, horizon: int) -> dict[str, Any] | None:
    """What plans predicted beside what then came of them; None where no decision can be judged.

    A plan that ends in a value function promises the discounted rest of the episode: it is held to that in the first
    half of an episode, where what the time limit cuts off counts little. One without promises the sum of the rewards
    within its horizon, and the decisions whose horizon reaches beyond the time limit are left out. An episode that
    terminated earns nothing more, so that all its decisions can be judged.

    Returns:
        Means over episodes: `predicted`, `realised`, and `optimism`, predicted less realised, with its `interval`;
        over all decisions together their `correlation` (None where one of the two never changes) and how many
        `decisions` they are; and what share of an even stream of rewards lay beyond the time limit, as `cut`. A perfect
        model would seem optimistic by about that much.
    """
    pairs = []
    cut: list[float] = []
    begin = 0
    for length, terminated in zip(episodes.lengths, episodes.terminated, strict=True):
        rewards = np.asarray(episodes.rewards[begin : begin + length])
        predicted = np.asarray(episodes.predicted[begin : begin + length])
        begin += length
        if cell.terminal:
            realised, judged = discounted_rest(rewards, discount), length if terminated else length // 2
        else:
            realised, judged = windowed_sum(rewards, horizon), length if terminated else length - horizon + 1
        each = np.stack([predicted, realised], axis=1)[: max(judged, 0)]
        known = np.isfinite(each).all(axis=1)
        each = each[known]
        limited = cell.terminal and not terminated
        cut += [discount ** float(length - t) if limited else 0.0 for t in np.flatnonzero(known)]
        if len(each):
            pairs.append(each)
    if not pairs:
        return None
    means = np.stack([each.mean(axis=0) for each in pairs])
    optimism = means[:, 0] - means[:, 1]
    together = np.concatenate(pairs)
    spread = together.std(axis=0)
    varies = len(together) > 1 and bool((spread > 1e-9 * np.maximum(np.abs(together).max(axis=0), 1e-9)).all())
    return {
        "predicted": float(means[:, 0].mean()),
        "realised": float(means[:, 1].mean()),
        "optimism": float(optimism.mean()),
        "interval": list(bootstrap_interval(optimism.tolist())),
        "correlation": float(np.corrcoef(together.T)[0, 1]) if varies else None,
        "decisions": len(together),
        "cut": float(np.mean(cut)),
    }


def discounted_rest(rewards: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """The discounted return (T,) from each decision to the end of the episode, of rewards (T,)."""
    rest = np.zeros(len(rewards))
    after = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        rest[t] = after = rewards[t] + discount * after
    return rest


def windowed_sum(rewards: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """The sum (T,) of the `horizon` rewards from each decision on, of rewards (T,); after the end there are none."""
    sums = np.concatenate([[0.0], np.cumsum(rewards)])
    ends = np.minimum(np.arange(len(rewards)) + horizon, len(rewards))
    return sums[ends] - sums[:-1]


def beats(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """How probable it is that A's return is above B's from the same starting state; ties count half.

    Args:
        a: returns, one a seed.
        b: the other's, of the same seeds in the same order.

    Returns:
        `probability`, and its 95 % `interval`, Wilson's of a share: where one won every time, it still has a width.
    """
    wins = (np.sign(np.subtract(a, b)) + 1) / 2
    # SciPy's takes whole wins alone.
    share, n, z = float(wins.mean()), len(wins), 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return {"probability": share, "interval": [max(middle - half, 0.0), min(middle + half, 1.0)]}


def matrix(returns: Sequence[Sequence[float]]) -> list[list[dict[str, Any] | None]]:
    """`beats` of every two rows, of returns paired by seed; None on the diagonal."""
    size = len(returns)
    table: list[list[dict[str, Any] | None]] = [[None] * size for _ in range(size)]
    for i in range(size):
        for j in range(i):
            below = beats(returns[i], returns[j])
            low, high = below["interval"]
            table[i][j] = below
            table[j][i] = {"probability": 1 - below["probability"], "interval": [1 - high, 1 - low]}
    return table


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of points (cost, gain), as their indices from the cheapest to the dearest.

    A point is on it when no other gains at least as much for at most as much, and more or for less.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    best, on = -math.inf, []
    for i in order:
        if points[i][1] > best:
            best = points[i][1]
            on.append(i)
    return on
