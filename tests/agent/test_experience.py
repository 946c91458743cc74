import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Experience


def filled(lengths: list[int], capacity: int, terminated: bool = True) -> Experience:
    """Episodes of these lengths; observation (episode, time), reward = time, action = 100 episode + time."""
    experience = Experience(capacity, 2, 1)
    for episode, length in enumerate(lengths):
        for t in range(length):
            last = t == length - 1
            experience.add(
                [episode, t],
                [episode * 100 + t],
                float(t),
                [episode, t + 1],
                last and terminated,
                last and not terminated,
            )
    return experience


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    capacity=st.integers(1, 40),
    length=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_sequences_are_contiguous_and_never_cross_an_episode(lengths, capacity, length, seed):
    experience = filled(lengths, capacity)
    batch = experience.sample(32, length, np.random.default_rng(seed))
    assert batch.observations.shape == (length + 1, 32, 2)
    assert (batch.mask[0] == 1).all()
    for m in range(32):
        real = int(batch.mask[:, m].sum())
        assert (batch.mask[:real, m] == 1).all()  # padding comes last
        episode, first = batch.observations[0, m].tolist()
        for t in range(real):
            assert batch.observations[t, m].tolist() == [episode, first + t]
            assert batch.observations[t + 1, m].tolist() == [episode, first + t + 1]
            assert batch.actions[t, m].item() == episode * 100 + first + t
            assert batch.rewards[t, m].item() == first + t
            is_last = first + t == lengths[int(episode)] - 1
            assert batch.terminated[t, m].item() == is_last
            assert not is_last or t == real - 1
        # A sequence is cut short only where its episode ends.
        assert real == min(length, lengths[int(episode)] - int(first))


def test_every_decision_is_as_likely_to_be_first():
    experience = filled([3, 50, 1], 1000)
    batch = experience.sample(60_000, 3, np.random.default_rng(0))
    counts = np.unique(batch.observations[0].numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 54
    assert counts.min() > 900
    assert counts.max() < 1350


def test_the_running_episode_can_be_sampled_at_once():
    experience = Experience(10, 1, 1)
    experience.add([0.0], [0.5], 1.0, [1.0], False, False)
    batch = experience.sample(4, 3, np.random.default_rng(0))
    assert batch.mask.sum(0).tolist() == [1, 1, 1, 1]
    assert batch.observations[1, 0].item() == 1


def test_a_full_ring_forgets_the_oldest():
    experience = filled([30], 10)
    assert len(experience) == 10
    batch = experience.sample(1000, 1, np.random.default_rng(0))
    assert sorted(set(batch.observations[0, :, 1].tolist())) == list(range(20, 30))


def test_an_episode_can_be_ended_from_outside():
    experience = Experience(10, 1, 1)
    experience.add([0.0], [0.0], 0.0, [1.0], False, False)
    experience.end_episode()
    experience.add([5.0], [0.0], 0.0, [6.0], False, False)
    batch = experience.sample(50, 2, np.random.default_rng(0))
    assert (batch.mask[1] == 0).all()


def test_nothing_unfinite_is_stored():
    experience = Experience(10, 1, 1)
    for bad in (([np.nan], [0.0], 0.0, [0.0]), ([0.0], [np.inf], 0.0, [0.0]), ([0.0], [0.0], np.nan, [0.0])):
        with pytest.raises(ValueError, match="NaN or infinite"):
            experience.add(*bad, False, False)
    assert len(experience) == 0
    with pytest.raises(ValueError, match="empty"):
        experience.sample(1, 1, np.random.default_rng(0))


def test_what_is_refused_does_not_spoil_a_full_ring():
    experience = filled([3], 3)
    with pytest.raises(ValueError, match="NaN or infinite"):
        experience.add([np.nan, 0], [0.0], np.nan, [0, 0], False, False)
    batch = experience.sample(100, 1, np.random.default_rng(0))
    assert sorted(set(batch.rewards[0].tolist())) == [0, 1, 2]
    assert np.isfinite(batch.observations.numpy()).all()
