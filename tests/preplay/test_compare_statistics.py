"""What is said of a comparison's episodes, by examples that can be worked out by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from agent import Episodes
from preplay.comparison.cells import Cell
from preplay.comparison.statistics import beats, discounted_rest, front, matrix, promise, windowed_sum


def episodes(*each, terminated=False):
    """Episodes from pairs of rewards and predictions."""
    made = Episodes()
    for i, (rewards, predicted) in enumerate(each):
        n = len(rewards)
        ends = terminated if isinstance(terminated, bool) else terminated[i]
        rewards = [float(x) for x in rewards]
        made.extend(
            Episodes([i], [sum(rewards)], [n], [ends], [False], [1.0] * n, rewards, [*map(float, predicted)], [1] * n)
        )
    return made


def test_discounted_rest():
    np.testing.assert_allclose(discounted_rest(np.array([1.0, 2.0, 4.0]), 0.5), [3.0, 4.0, 4.0])


def test_windowed_sum():
    np.testing.assert_allclose(windowed_sum(np.array([1.0, 2.0, 4.0, 8.0]), 2), [3.0, 6.0, 12.0, 8.0])
    np.testing.assert_allclose(windowed_sum(np.array([1.0, 2.0]), 5), [3.0, 2.0])


def test_a_value_function_is_held_to_the_rest_of_the_episode_in_its_first_half():
    # Discount 1/2: the rest is worth 1.875, 1.75, 1.5 and 1; the last two decisions don't count.
    found = promise(Cell("mppi", "learned", "default"), episodes(([1] * 4, [2, 2, 9, 9])), 0.5, 3)
    assert found["predicted"] == 2
    assert found["realised"] == pytest.approx(1.8125)
    assert found["optimism"] == pytest.approx(0.1875)
    assert found["interval"] == [None, None]
    assert found["decisions"] == 2
    assert found["cut"] == pytest.approx((1 / 16 + 1 / 8) / 2)
    assert found["correlation"] is None  # predictions that never change go with nothing


def test_after_termination_nothing_more_is_earned():
    cells = Cell("mppi", "simulator+value", "default"), Cell("mppi", "simulator", "default")
    played = episodes(([1, 1, 1], [3, 2, 1]), terminated=True)
    for cell in cells:
        found = promise(cell, played, 1.0, 5)
        assert (found["predicted"], found["realised"], found["decisions"]) == (2, 2, 3)
        assert found["correlation"] == pytest.approx(1)
        assert found["cut"] == 0


def test_the_simulator_alone_is_held_to_its_horizon():
    # Of five decisions with a horizon of two, the last one's reaches beyond the end.
    found = promise(Cell("mppi", "simulator", "default"), episodes(([1, 2, 3, 4, 5], [3, 5, 7, 10, 99])), 0.9, 2)
    assert found["decisions"] == 4
    assert found["realised"] == pytest.approx((3 + 5 + 7 + 9) / 4)
    assert found["optimism"] == pytest.approx(0.25)


def test_decisions_without_a_plan_of_their_own_do_not_count():
    played = episodes(([1] * 4, [4, math.nan, 9, 9]), ([0] * 4, [1, 3, 9, 9]))
    found = promise(Cell("mppi", "learned", "default"), played, 1.0, 3)
    # Means over episodes: predicted 4 and 2, realised 4 and 0.
    assert (found["predicted"], found["realised"], found["optimism"]) == (3, 2, 1)
    assert found["decisions"] == 3
    assert found["interval"] == [0, 2]


def test_nothing_to_judge():
    cell = Cell("mppi", "simulator", "default")
    assert promise(cell, episodes(([1, 1], [2, 2])), 1.0, 5) is None
    assert promise(cell, episodes(([1, 1], [math.nan] * 2)), 1.0, 1) is None


def test_ties_count_half():
    found = beats([1, 5, 2, 7], [0, 5, 3, 6])
    assert found["probability"] == 0.625
    low, high = found["interval"]
    assert 0 <= low < 0.625 < high <= 1
    assert beats([3, 3], [3, 3])["probability"] == 0.5


@pytest.mark.parametrize(("won", "played"), [(1, 1), (5, 5), (0, 4), (3, 8), (10, 20)])
def test_the_interval_of_a_share_is_wilsons(won, played):
    found = beats([1] * won + [0] * (played - won), [0.5] * played)
    expected = scipy.stats.binomtest(won, played).proportion_ci(method="wilson")
    assert found["probability"] == won / played
    assert found["interval"] == pytest.approx([expected.low, expected.high], abs=1e-4)


def test_the_matrix_is_antisymmetric():
    rng = np.random.default_rng(0)
    table = matrix(rng.integers(0, 4, (5, 12)).tolist())
    for i in range(5):
        assert table[i][i] is None
        for j in range(i):
            one, other = table[i][j], table[j][i]
            assert one["probability"] + other["probability"] == pytest.approx(1)
            assert one["interval"] == pytest.approx([1 - x for x in reversed(other["interval"])])


def test_pareto_front():
    points = [(10, 5), (1, 3), (5, 3), (5, 6), (20, 6), (30, 9), (0.5, -1)]
    assert front(points) == [6, 1, 3, 5]
    assert front([]) == []
    assert front([(1, 2), (1, 2)]) == [0]


def test_the_front_is_what_nothing_dominates():
    rng = np.random.default_rng(1)
    points = [tuple(x) for x in rng.integers(0, 8, (40, 2)).tolist()]
    on = {points[i] for i in front(points)}
    for x, y in points:
        dominated = any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        assert ((x, y) in on) == (not dominated)
