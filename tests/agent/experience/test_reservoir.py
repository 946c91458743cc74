import numpy as np
import pytest

from agent import Experience, ExperienceError
from agent.experience.reservoir import kept
from tests.agent.experience.stores import contents, drawn, fill


def test_each_is_kept_with_the_same_probability():
    counts = np.zeros(21)
    for seed in range(2000):
        held = kept(seed, 5, range(1, 21))
        assert len(held) == 5
        counts[list(held)] += 1
    assert counts[0] == 0
    # Binomial(2000, 1/4): five standard deviations.
    assert abs(counts[1:] - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
    assert ((counts[1:] - 500) ** 2 / 500).sum() < 45  # chi-square of 19 degrees of freedom


def test_what_is_kept_depends_on_nothing_else():
    assert kept(3, 4, range(1, 9)) == kept(3, 4, range(1, 9))
    assert kept(3, 4, range(1, 5)) == {1, 2, 3, 4}
    before = kept(3, 4, range(1, 9))
    assert len(before - kept(3, 4, range(1, 10))) <= 1


@pytest.mark.parametrize("released", [False, True])
def test_a_store_forgets_whole_segments_and_the_same_ones_when_it_is_opened_again(tmp_path, released):
    options = {"capacity": 64, "evict": "reservoir", "seed": 5}
    experience = Experience(tmp_path, **options)
    for episode in range(50):
        fill(experience, [4], first=episode)
        # capacity // 32 = 2 rows fill a segment, so each holds an episode; 32 and the newest are kept.
        assert len(experience) == 4 * min(episode + 1, 33)
        if released and episode == 40:
            experience.release()
            assert len(list(tmp_path.glob("*.segment"))) == 33
    alive = kept(5, 32, range(1, 50)) | {50}
    assert {x.segment for x in experience.episodes} == alive
    starts = experience.sample(3000, 1, np.random.default_rng(0)).starts
    assert set((starts // 4 + 1).tolist()) == alive
    gone = min(set(range(1, 50)) - alive)
    with pytest.raises(ValueError, match="empty"):
        experience.sample(1, 1, np.random.default_rng(0), within=(4 * gone - 4, 4 * gone))
    before = contents(experience), drawn(experience)
    assert experience.verify() == []
    experience.close()
    for read_only in (True, False):
        again = Experience(tmp_path, read_only=read_only, **(options | {"seed": 1}))  # the store's own seed counts
        assert (contents(again), drawn(again)) == before
        again.close()


def test_going_back_to_what_was_released_is_refused(tmp_path):
    experience = Experience(tmp_path, capacity=32, evict="reservoir")
    offsets = []
    for episode in range(60):
        fill(experience, [1], first=episode)
        offsets.append(experience.offset)
    experience.release()
    with pytest.raises(ExperienceError, match="can't go back"):
        experience.rewind(offsets[31])
    experience.rewind(offsets[-1])
