import numpy as np
import pytest

from agent.exploration import CorrelatedNoise


@pytest.mark.parametrize("time", [0.0, 4.0, 50.0])
def test_noise_is_normal_at_every_moment_and_forgets_in_the_time_it_is_given(time):
    rng, noise = np.random.default_rng(0), CorrelatedNoise(4000, time)
    noise.begin(rng)
    drawn = np.array([noise.draw(rng) for _ in range(5)])
    assert abs(drawn.mean(axis=1)).max() < 0.06
    assert abs(drawn.std(axis=1) - 1).max() < 0.04
    for lag in (1, 4):
        expected = np.exp(-lag / time) if time else 0.0
        assert abs(np.mean(drawn[lag] * drawn[0]) - expected) < 0.06


def test_an_episode_begins_with_noise_of_its_own():
    rng, noise = np.random.default_rng(0), CorrelatedNoise(4000, 50.0)
    noise.begin(rng)
    before = noise.draw(rng)
    noise.begin(rng)
    assert abs(np.mean(noise.draw(rng) * before)) < 0.06
