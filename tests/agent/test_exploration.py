import numpy as np
import pytest

from agent.exploration import EpisodeNoise


def correlations(noise: EpisodeNoise, rng: np.random.Generator) -> list[float]:
    """Of an episode: how much what is drawn resembles the first vector, one decision later and four."""
    noise.begin(rng)
    drawn = np.array([noise.draw(rng) for _ in range(5)])
    assert abs(drawn.mean(axis=1)).max() < 0.07
    assert abs(drawn.std(axis=1) - 1).max() < 0.08
    return [float(np.mean(drawn[lag] * drawn[0])) for lag in (1, 4)]


@pytest.mark.parametrize("time", [4.0, 50.0])
def test_in_half_of_the_episodes_noise_forgets_in_the_time_it_is_given(time):
    rng, noise = np.random.default_rng(1), EpisodeNoise(4000, time)
    found = np.array([correlations(noise, rng) for _ in range(40)])
    white = abs(found).max(axis=1) < 0.1
    assert 10 < white.sum() < 30
    assert abs(found[~white] - np.exp(-np.array([1, 4]) / time)).max() < 0.1


def test_without_a_time_all_of_it_is_white():
    rng, noise = np.random.default_rng(0), EpisodeNoise(4000, 0.0)
    assert max(abs(x) for _ in range(10) for x in correlations(noise, rng)) < 0.07


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_episodes_whose_noise_lasts_are_the_first_to_be_explored_widely(share):
    rng, noise = np.random.default_rng(1), EpisodeNoise(4000, 50.0, wide_share=share)
    lasts, wide = np.array([(correlations(noise, rng)[0] > 0.5, noise.wide) for _ in range(60)]).T
    assert abs(wide.mean() - share) < 0.15
    assert not (wide & ~lasts if share <= 0.5 else lasts & ~wide).any()


def test_without_a_time_as_many_episodes_are_explored_widely():
    rng, noise = np.random.default_rng(0), EpisodeNoise(2, 0.0)
    wide = []
    for _ in range(60):
        noise.begin(rng)
        wide.append(noise.wide)
    assert 15 < sum(wide) < 45


def test_an_episode_begins_with_noise_of_its_own():
    rng, noise = np.random.default_rng(0), EpisodeNoise(4000, 50.0)
    noise.begin(rng)
    before = noise.draw(rng)
    noise.begin(rng)
    assert abs(np.mean(noise.draw(rng) * before)) < 0.06
