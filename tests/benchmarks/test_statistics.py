"""Means, interquartile means and intervals, against values worked out by hand."""

import numpy as np
import pytest

from benchmarks.study.statistics import interquartile_mean, interval, mean, pooled_interval, wins_and_losses


def scores(*tasks):
    return [np.array(task, float) for task in tasks]


def test_every_task_counts_the_same_in_the_mean():
    assert mean(scores([100, 200, 300], [0])) == 100


def test_the_interquartile_mean_is_the_mean_of_the_middle_half_of_all_runs():
    assert interquartile_mean(scores([0, 1, 2, 3], [4, 5, 6, 1000])) == pytest.approx((2 + 3 + 4 + 5) / 4)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_statistics_of_many_resamples_are_those_of_each(statistic):
    rng = np.random.default_rng(0)
    tasks = [rng.normal(size=(7, 3)), rng.normal(size=(7, 2))]
    each = [statistic([task[i] for task in tasks]) for i in range(7)]
    np.testing.assert_allclose(statistic(tasks), each)


def test_single_seeds_say_nothing_of_their_spread():
    assert interval(scores([100], [900])) is None


def test_seeds_that_agree_leave_no_doubt():
    assert interval(scores([100, 100], [900, 900])) == (500, 500)


def test_seeds_are_drawn_within_tasks():
    """Tasks that differ widely don't widen the interval; drawing from all runs together would."""
    low, high = interval(scores([0, 1, 2], [1000, 1001, 1002]))
    assert 500 < low < 501 < high < 502


def test_a_task_with_one_seed_stays_where_it_is():
    assert interval(scores([10, 20], [100])) == (pytest.approx(55), pytest.approx(60))


def test_the_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = [interval([rng.normal(size=20), rng.normal(size=20)]) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 0 <= high for low, high in trials]) <= 0.99


def test_the_pooled_interval_is_the_t_interval_of_equal_spreads():
    two = [np.array([1.0, 3.0]), np.array([10.0, 16.0])]
    # Variances 2 and 18, 10 together with 2 degrees of freedom; the mean's is (10 / 2 + 10 / 2) / 4.
    half = 4.302653 * np.sqrt(10 * (1 / 2 + 1 / 2)) / 2
    assert pooled_interval(two) == pytest.approx((7.5 - half, 7.5 + half))
    # A single seed is as uncertain as another one.
    half = 4.302653 * np.sqrt(10 * (1 / 2 + 1 / 2 + 1)) / 3
    middle = (2 + 13 + 20) / 3
    assert pooled_interval([*two, np.array([20.0])]) == pytest.approx((middle - half, middle + half))
    assert pooled_interval(scores([100], [900])) is None
    assert pooled_interval(scores([5, 5], [7])) == (6, 6)


def test_the_pooled_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = [pooled_interval([rng.normal(size=2), rng.normal(size=2), rng.normal(size=1)]) for _ in range(400)]
    assert 0.92 <= np.mean([low <= 0 <= high for low, high in trials]) <= 0.98


def test_wins_and_losses_are_counted_on_what_both_have():
    assert wins_and_losses({"a": 2, "b": 1, "c": 5, "d": 9}, {"a": 1, "b": 2, "c": 5, "e": 0}) == (1, 1)
