from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import Experience, ExperienceError, Priorities
from tests.agent.experience.stores import actor, fill


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    capacity=st.none() | st.integers(1, 20),
    segment_bytes=st.sampled_from([1, 4600, 2**20]),
    length=st.integers(1, 6),
    seed=st.integers(0, 1000),
    running=st.integers(0, 3),
    prioritised=st.booleans(),
    reopen=st.booleans(),
    data=st.data(),
)
def test_sequences_are_contiguous_and_never_cross_an_episode(
    lengths, capacity, segment_bytes, length, seed, running, prioritised, reopen, data
):
    with TemporaryDirectory() as folder, Experience(folder, capacity=capacity, segment_bytes=segment_bytes) as store:
        experience = fill(store, lengths)
        if running:
            experience.begin([len(lengths), 0], task="toy")
            for t in range(running):
                experience.add([len(lengths) * 100 + t], float(t), [len(lengths), t + 1], False, False, actor(t))
            lengths = [*lengths, running]
        if reopen:
            experience.close()
            experience = Experience(folder, capacity=capacity, segment_bytes=segment_bytes)
        total = sum(lengths)
        alive = total if capacity is None else min(total, capacity)
        assert len(experience) == alive
        assert experience.total == total
        low, high, within = total - alive, total, None
        if data.draw(st.booleans()):
            first, last = data.draw(st.integers(0, total)), data.draw(st.none() | st.integers(1, total))
            low, high, within = max(low, first), total if last is None else last, (first, last)
        rng = np.random.default_rng(seed)
        priorities = Priorities() if prioritised else None
        if low >= high:
            with pytest.raises(ValueError, match="empty"):
                experience.sample(12, length, rng, within=within, priorities=priorities)
            return
        batch = experience.sample(12, length, rng, within=within, priorities=priorities)
        firsts = np.concatenate([[0], np.cumsum(lengths)])
        np.testing.assert_allclose(batch.probabilities, 1 / (high - low))
        assert batch.observations.shape == (length + 1, 12, 2)
        columns = (batch.mask, batch.observations, batch.actions, batch.rewards, batch.terminated)
        for start, *column in zip(batch.starts.tolist(), *(x.swapaxes(0, 1).tolist() for x in columns), strict=True):
            mask, observations, actions, rewards, terminated = column
            real = int(sum(mask))
            assert real >= 1
            assert mask == [1] * real + [0] * (length - real)  # padding comes last
            episode, first = map(int, observations[0])
            assert start == firsts[episode] + first
            assert low <= start < high
            last = lengths[episode] - 1 if not (running and episode == len(lengths) - 1) else None
            for t in range(length):
                s = first + min(t, real - 1)  # padding repeats the last real decision
                if t < real:
                    assert observations[t] == [episode, s]
                assert observations[t + 1] == [episode, s + 1]
                assert actions[t] == [episode * 100 + s]
                assert rewards[t] == s
                assert terminated[t] == (s == last)
            # A sequence is cut short only where its episode ends, or what may be sampled.
            assert real == min(length, lengths[episode] - first, high - start)


def test_every_decision_is_as_likely_to_be_first(tmp_path):
    experience = fill(Experience(tmp_path, segment_bytes=4300), [3, 20, 1])
    batch = experience.sample(24_000, 3, np.random.default_rng(0))
    counts = np.unique(batch.observations[0].numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert counts.min() > 900
    assert counts.max() < 1350


def test_sequences_come_in_the_order_in_which_they_lie(tmp_path):
    experience = fill(Experience(tmp_path, segment_bytes=1), [6] * 8)
    for priorities in (None, Priorities()):
        starts = experience.sample(200, 2, np.random.default_rng(0), priorities=priorities).starts
        assert np.all(np.diff(starts) >= 0)
        assert starts[0] < 6
        assert starts[-1] >= 42


def test_the_running_episode_can_be_sampled_at_once(tmp_path):
    experience = Experience(tmp_path)
    experience.begin([0.0], task="toy")
    assert len(experience) == 0
    experience.add([0.5], 1.0, [1.0], False, False)
    batch = experience.sample(4, 3, np.random.default_rng(0))
    assert batch.mask.sum(0).tolist() == [1, 1, 1, 1]
    assert batch.observations[1, 0].item() == 1


def test_the_oldest_are_evicted_at_once_and_exactly(tmp_path):
    experience = Experience(tmp_path, capacity=10, segment_bytes=1)
    for episode in range(4):
        fill(experience, [7], first=episode)
        total = experience.total
        assert len(experience) == min(total, 10)
        batch = experience.sample(1000, 1, np.random.default_rng(0))
        assert sorted(set(batch.starts.tolist())) == list(range(max(0, total - 10), total))
    assert [x.number for x in experience.episodes] == [2, 3]
    before = experience.disk_bytes
    experience.release()
    assert experience.disk_bytes < before
    assert [p.name for p in sorted(tmp_path.glob("*.segment"))] == ["000003.segment", "000004.segment"]
    experience.close()
    again = Experience(tmp_path, capacity=10)
    assert sorted(set(again.sample(1000, 1, np.random.default_rng(0)).starts.tolist())) == list(range(18, 28))
    assert fill(again, [2], first=4).episodes[-1].number == 4


def test_an_episode_can_be_ended_from_outside(tmp_path):
    experience = Experience(tmp_path)
    experience.end_episode()  # none is running
    experience.begin([0.0], task="toy")
    experience.add([0.0], 0.0, [1.0], False, False)
    experience.end_episode()
    with pytest.raises(ValueError, match="begin"):
        experience.add([0.0], 0.0, [1.0], False, False)
    experience.begin([5.0], task="toy")
    experience.add([0.0], 0.0, [6.0], False, False)
    batch = experience.sample(50, 2, np.random.default_rng(0))
    assert (batch.mask[1] == 0).all()
    assert [x.running for x in experience.episodes] == [False, True]


def test_what_cannot_be_stored_is_refused_and_changes_nothing(tmp_path):
    experience = fill(Experience(tmp_path, capacity=3), [3])
    offset = experience.offset
    experience.begin([0.0, 0.0], task="toy")
    for _ in range(2):
        for bad in (([np.inf], 0.0, [0.0, 0.0]), ([0.0], np.nan, [0.0, 0.0]), ([0.0], 0.0, [0.0, 1e300])):
            with pytest.raises(ValueError, match="NaN or infinite"):
                experience.add(*bad, False, False)
        for bad in (([[0.0]], 0.0, [0.0, 0.0]), ([0.0], 0.0, [0.0])):
            with pytest.raises(ValueError, match="shape"):
                experience.add(*bad, False, False)
        experience.add([0.0], 0.0, [0.0, 1.0], False, False)
    with pytest.raises(ValueError, match="NaN or infinite"):
        experience.begin([np.nan, 0.0], task="toy")
    with pytest.raises(ValueError, match="can't be stored"):
        experience.begin([0.0, 0.0], task="toy", extra={"what": object()})
    assert experience.total == 5
    assert experience.verify() == []
    experience.rewind(offset)
    batch = experience.sample(100, 1, np.random.default_rng(0))
    assert sorted(set(batch.rewards[0].tolist())) == [0, 1, 2]


def test_an_empty_store_can_not_be_sampled(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        Experience(tmp_path).sample(1, 1, np.random.default_rng(0))


def test_tasks_of_different_sizes_can_be_stored_but_not_sampled_together(tmp_path):
    experience = fill(Experience(tmp_path), [4, 4])
    experience.begin([0.0], task="other")
    experience.add([0.0, 1.0], 0.5, [1.0], False, True)
    fill(experience, [5], first=3)
    assert [(x.segment, x.observation_dim, x.action_dim) for x in experience.episodes] == [
        (1, 2, 1), (1, 2, 1), (2, 1, 2), (3, 2, 1),
    ]  # fmt: skip
    with pytest.raises(ExperienceError, match="different sizes"):
        experience.sample(4, 1, np.random.default_rng(0))
    assert experience.sample(4, 1, np.random.default_rng(0), within=(8, 9)).actions.shape == (1, 4, 2)
    assert experience.sample(4, 1, np.random.default_rng(0), within=(9, None)).actions.shape == (1, 4, 1)


def test_a_batch_is_memory_of_its_own(tmp_path):
    experience = fill(Experience(tmp_path, segment_bytes=5000), [30, 30])
    batch = experience.sample(16, 3, np.random.default_rng(0))
    copies = [x.clone() for x in (batch.observations, batch.actions, batch.rewards, batch.terminated, batch.mask)]
    for x in (batch.observations, batch.actions, batch.rewards):
        assert x.is_contiguous()
        assert x.data_ptr() % 64 == 0
    experience.sample(16, 3, np.random.default_rng(1))
    kept = (batch.observations, batch.actions, batch.rewards, batch.terminated, batch.mask)
    assert all((a == b).all() for a, b in zip(copies, kept, strict=True))
    batch.observations[:] = -1
    assert (experience.sample(60, 1, np.random.default_rng(0)).observations >= 0).all()
    both = batch.beside(batch)
    assert both.rewards.shape == (3, 32)
    assert both.starts.tolist() == batch.starts.tolist() * 2
