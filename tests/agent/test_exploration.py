import numpy as np
import pytest

from agent.exploration import CorrelatedNoise


def correlations(noise: CorrelatedNoise, rng: np.random.Generator) -> list[float]:
    """Of an episode: how much what is drawn resembles the first vector, one decision later and four."""
    noise.begin(rng)
    drawn = np.array([noise.draw(rng) for _ in range(5)])
    assert abs(drawn.mean(axis=1)).max() < 0.07
    assert abs(drawn.std(axis=1) - 1).max() < 0.08
    return [float(np.mean(drawn[lag] * drawn[0])) for lag in (1, 4)]


@pytest.mark.parametrize("time", [4.0, 50.0])
def test_in_half_of_the_episodes_noise_forgets_in_the_time_it_is_given(time):
    rng, noise = np.random.default_rng(1), CorrelatedNoise(4000, time)
    found = np.array([correlations(noise, rng) for _ in range(40)])
    white = abs(found).max(axis=1) < 0.1
    assert 10 < white.sum() < 30
    assert abs(found[~white] - np.exp(-np.array([1, 4]) / time)).max() < 0.1


def test_without_a_time_all_of_it_is_white():
    rng, noise = np.random.default_rng(0), CorrelatedNoise(4000, 0.0)
    assert max(abs(x) for _ in range(10) for x in correlations(noise, rng)) < 0.07


def test_an_episode_begins_with_noise_of_its_own():
    rng, noise = np.random.default_rng(0), CorrelatedNoise(4000, 50.0)
    noise.begin(rng)
    before = noise.draw(rng)
    noise.begin(rng)
    assert abs(np.mean(noise.draw(rng) * before)) < 0.06


def test_states_of_former_versions_are_understood():
    rng, noise = np.random.default_rng(0), CorrelatedNoise(4000, 50.0)
    for saved, correlated in ((0.98, True), (0.7, True), (0.3, False), (0.0, False)):
        noise.state = np.append(rng.standard_normal(4000), saved)
        before = noise.state[:-1]
        assert (np.mean(noise.draw(rng) * before) > 0.9) == correlated
