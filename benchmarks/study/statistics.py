"""What returns of several tasks and seeds come to, and how sure that is."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Scores = Sequence[NDArray[np.float64]]
"""For each task the returns of its seeds, (..., seeds)."""
Interval = tuple[float, float] | None

_RESAMPLES = 5000


def mean(scores: Scores) -> NDArray[np.float64]:
    """The mean over tasks of the mean over seeds, (...): every task counts the same, however many seeds it has."""
    return np.mean([np.mean(task, axis=-1) for task in scores], axis=0)


def interquartile_mean(scores: Scores) -> NDArray[np.float64]:
    """The mean of the middle half of all runs, (...) (Agarwal et al., arXiv 2108.13264).

    DMControl's returns share one scale, 0 to 1000, so they are not normalised.
    """
    return np.asarray(scipy.stats.trim_mean(np.concatenate(list(scores), axis=-1), 0.25, axis=-1))


def interval(scores: Scores, statistic: Callable[[Scores], NDArray[np.float64]] = mean) -> Interval:
    """95 % percentile-bootstrap interval of a statistic over training seeds.

    Seeds are drawn again within each task, so that every resample holds all tasks: `scipy.stats.bootstrap` can't
    stratify.

    Returns:
        Low and high; None where no task has two seeds, which then say nothing of their spread. A task with a single
        seed does not widen the interval.
    """
    if all(len(task) < 2 for task in scores):
        return None
    rng = np.random.default_rng(0)
    drawn = [task[rng.integers(len(task), size=(_RESAMPLES, len(task)))] for task in scores]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return float(low), float(high)


def pooled_interval(scores: Scores) -> Interval:
    """95 % t-interval of `mean`, as if seeds varied as much on every task, those with a single seed included.

    With two seeds a task, resampling within tasks draws far too narrow an interval. This one has the right width where
    the spread is the same everywhere, and about the right one elsewhere.

    Returns:
        Low and high; None where no task has two seeds.
    """
    freedom = sum(len(task) - 1 for task in scores)
    if not freedom:
        return None
    variance = sum(float(((task - task.mean()) ** 2).sum()) for task in scores) / freedom
    error = np.sqrt(variance * sum(1 / len(task) for task in scores)) / len(scores)
    middle, half = float(mean(scores)), float(scipy.stats.t.ppf(0.975, freedom) * error)
    return middle - half, middle + half


def wins_and_losses(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[int, int]:
    """On how many of the tasks that both have ours is higher, and on how many lower."""
    both = ours.keys() & theirs.keys()
    return sum(ours[task] > theirs[task] for task in both), sum(ours[task] < theirs[task] for task in both)
