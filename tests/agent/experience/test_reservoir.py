import numpy as np
import pytest

from agent import Experience, ExperienceError
from agent.experience.reservoir import kept
from tests.agent.experience.stores import contents, drawn, fill


def test_each_is_kept_with_the_same_probability():
    counts = np.zeros(21)
    for seed in range(1000):
        held = kept(seed, 5, range(1, 21))
        assert len(held) == 5
        counts[list(held)] += 1
    assert counts[0] == 0
    # Binomial(1000, 1/4): five standard deviations.
    assert abs(counts[1:] - 250).max() < 5 * np.sqrt(1000 * 0.25 * 0.75)
    assert ((counts[1:] - 250) ** 2 / 250).sum() < 45  # chi-square of 19 degrees of freedom


def test_what_is_kept_depends_on_nothing_else():
    assert kept(3, 4, range(1, 9)) == kept(3, 4, range(1, 9))
    assert kept(3, 4, range(1, 5)) == {1, 2, 3, 4}
    before = kept(3, 4, range(1, 9))
    assert len(before - kept(3, 4, range(1, 10))) <= 1


@pytest.mark.parametrize(("capacity", "slots", "released"), [(64, 32, False), (8, 8, True)])
def test_a_store_forgets_whole_segments_and_the_same_ones_when_it_is_opened_again(tmp_path, capacity, slots, released):
    options = {"capacity": capacity, "evict": "reservoir", "seed": 5}
    experience, count = Experience(tmp_path, **options), slots + 8
    for episode in range(count):
        fill(experience, [2], first=episode)
        # One or two rows fill a segment, so each holds an episode; `slots` and the newest are kept.
        assert len(experience) == 2 * min(episode + 1, slots + 1)
        if released and episode == slots + 4:
            experience.release()
            assert len(list(tmp_path.glob("*.segment"))) == slots + 1
    alive = kept(5, slots, range(1, count)) | {count}
    assert {x.segment for x in experience.episodes} == alive
    starts = experience.sample(3000, 1, np.random.default_rng(0)).starts
    assert set((starts // 2 + 1).tolist()) == alive
    gone = min(set(range(1, count)) - alive)
    with pytest.raises(ValueError, match="empty"):
        experience.sample(1, 1, np.random.default_rng(0), within=(2 * gone - 2, 2 * gone))
    before = contents(experience), drawn(experience)
    assert experience.verify() == []
    experience.close()
    for read_only in (True, False):
        again = Experience(tmp_path, read_only=read_only, **(options | {"seed": 1}))  # the store's own seed counts
        assert (contents(again), drawn(again)) == before
        again.close()


def test_going_back_to_what_was_released_is_refused(tmp_path):
    experience = Experience(tmp_path, capacity=4, evict="reservoir")
    offsets = []
    for episode in range(12):
        fill(experience, [1], first=episode)
        offsets.append(experience.offset)
    experience.release()
    with pytest.raises(ExperienceError, match="can't go back"):
        experience.rewind(offsets[3])
    experience.rewind(offsets[-1])
