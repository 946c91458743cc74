import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Experience, Priorities
from tests.agent.experience.stores import fill


def frequencies(experience, priorities, seed=0, count=40_000, **options):
    batch = experience.sample(count, 1, np.random.default_rng(seed), priorities=priorities, **options)
    found = np.bincount(batch.starts, minlength=experience.total) / count
    claimed = np.zeros(experience.total)
    claimed[batch.starts] = batch.probabilities
    return found, claimed


def test_decisions_are_drawn_in_proportion_to_their_priorities(tmp_path):
    experience = fill(Experience(tmp_path, segment_bytes=4500), [20, 20, 20])
    priorities = Priorities()
    values = np.random.default_rng(1).uniform(0.1, 5, 60)
    values[7] = 60.0
    priorities.set(np.arange(60), values)
    found, claimed = frequencies(experience, priorities)
    np.testing.assert_allclose(claimed, values / values.sum(), rtol=1e-12)
    assert abs(found - claimed).max() < 5 * np.sqrt(claimed.max() / 40_000)
    found, claimed = frequencies(experience, priorities, within=(5, 50))
    assert found[:5].sum() == found[50:].sum() == 0
    np.testing.assert_allclose(claimed[5:50], values[5:50] / values[5:50].sum(), rtol=1e-12)
    assert abs(found - claimed).max() < 5 * np.sqrt(claimed.max() / 40_000)


def test_new_decisions_enter_with_the_largest_priority_so_far(tmp_path):
    experience = fill(Experience(tmp_path), [4])
    priorities = Priorities()
    np.testing.assert_allclose(frequencies(experience, priorities)[1], 0.25)
    priorities.set([0, 1], [8.0, 0.5])
    priorities.set([0], [2.0])
    fill(experience, [2], first=1)
    np.testing.assert_allclose(frequencies(experience, priorities)[1], np.array([2, 0.5, 1, 1, 8, 8]) / 20.5)


@pytest.mark.parametrize("evict", ["oldest", "reservoir"])
def test_evicted_decisions_are_never_drawn(tmp_path, evict):
    experience = Experience(tmp_path, capacity=8, evict=evict)
    priorities = Priorities()
    for episode in range(14):
        fill(experience, [3], first=episode)
        batch = experience.sample(64, 2, np.random.default_rng(episode), priorities=priorities)
        alive = {n for e in experience.episodes for n in range(e.first, e.first + 3)}
        if evict == "oldest":
            alive = set(range(max(0, experience.total - 8), experience.total))
        assert set(batch.starts.tolist()) <= alive
        priorities.set(batch.starts, np.where(batch.starts % 2, 10.0, 0.1))
    assert abs(frequencies(experience, priorities)[0].sum() - 1) < 1e-9


def test_after_a_rewind_later_decisions_are_new_again(tmp_path):
    experience = fill(Experience(tmp_path, capacity=70), [10, 70])
    offset = fill(experience, [5], first=2).offset
    priorities = Priorities()
    frequencies(experience, priorities)
    fill(experience, [100], first=3)
    priorities.set([80, 130], [0.5, 3.0])
    frequencies(experience, priorities)
    experience.rewind(offset)
    found = frequencies(experience, priorities)[0]
    assert found[:15].sum() == 0
    assert (found[15:] > 0).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e200])
def test_values_that_make_no_sense_are_refused(tmp_path, bad):
    experience = fill(Experience(tmp_path), [4])
    priorities = Priorities()
    priorities.set([1], [3.0])
    with pytest.raises(ValueError, match="priority"):
        priorities.set([0, 1], [5.0, bad])
    for numbers, values in (([-1], [1.0]), ([0.5], [1.0]), ([10**18], [1.0]), ([0, 1], [1.0])):
        with pytest.raises(ValueError, match="priorities"):
            priorities.set(numbers, values)
    np.testing.assert_allclose(frequencies(experience, priorities)[1], np.array([1, 3, 3, 3]) / 10)


def test_a_state_comes_back(tmp_path):
    experience = fill(Experience(tmp_path), [70])
    priorities, again = Priorities(), Priorities()
    priorities.set(np.arange(0, 70, 3), np.arange(1, 25))
    frequencies(experience, priorities)
    again.restore(priorities.state())
    for a, b in zip(frequencies(experience, priorities, 1), frequencies(experience, again, 1), strict=True):
        assert (a == b).all()
    right = priorities.state()
    for wrong in ({}, right | {"base": np.array([-1])}, right | {"values": np.zeros(3)}, right | {"largest": [0]}):
        with pytest.raises(ValueError, match="state"):
            again.restore(wrong)
    assert all((a == b).all() for a, b in zip(again.state().values(), right.values(), strict=True))


@given(
    size=st.integers(1, 300),
    first=st.integers(0, 1000),
    sets=st.lists(st.tuples(st.integers(0, 299), st.floats(1e-12, 1e12)), max_size=30),
    spans=st.lists(st.integers(0, 300), min_size=2, max_size=6, unique=True),
    seed=st.integers(0, 1000),
)
def test_what_is_drawn_lies_in_the_spans_and_its_probability_is_its_share(size, first, sets, spans, seed):
    priorities, values, largest = Priorities(), np.ones(size), 1.0
    bounds = sorted({min(x, size) for x in spans})
    low, high = np.array(bounds[0:-1:2], np.int64), np.array(bounds[1::2], np.int64)
    if not len(low):
        return
    priorities.draw(low + first, high + first, first, first + size, 1, np.random.default_rng(0))
    for number, value in sets:
        if number < size:
            priorities.set([number + first], [value])
            values[number] = value
            largest = max(largest, value)
    numbers, probabilities = priorities.draw(
        low + first, high + first, first, first + size, 50, np.random.default_rng(seed)
    )
    inside = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
    assert set((numbers - first).tolist()) <= set(inside.tolist())
    np.testing.assert_allclose(probabilities, values[numbers - first] / values[inside].sum(), rtol=1e-3)


def test_priorities_fade_with_age_down_to_a_floor(tmp_path):
    experience = fill(Experience(tmp_path), [500, 500])
    priorities = Priorities(fade=0.995, floor=0.1)
    values = np.random.default_rng(1).uniform(1, 3, 1000)
    priorities.set(np.arange(1000), values)
    wanted = values * np.maximum(0.995 ** np.arange(999, -1, -1), 0.1)
    for span in ((0, 1000), (0, 300), (350, 800)):
        found, claimed = frequencies(experience, priorities, within=span)
        inside = np.zeros(1000)
        inside[slice(*span)] = wanted[slice(*span)]
        drawn = claimed > 0
        # In bands of ages, each within a twentieth of what its decisions should have.
        np.testing.assert_allclose(claimed[drawn], (inside / inside.sum())[drawn], rtol=0.12)
        edges = np.arange(0, 1001, 50)
        np.testing.assert_allclose(
            np.add.reduceat(found, edges[:-1]), np.add.reduceat(inside / inside.sum(), edges[:-1]), atol=0.01
        )


@pytest.mark.parametrize(("fade", "floor"), [(0.0, 0.1), (1.1, 0.1), (0.9, -0.1), (0.9, 2.0), (np.nan, 0.1)])
def test_priorities_can_only_fade(fade, floor):
    with pytest.raises(ValueError, match="fade"):
        Priorities(fade, floor)
