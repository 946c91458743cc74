"""Physics that diverge are noticed, in both families, and end the episode cleanly."""

import logging

import numpy as np
import pytest

import envs
from envs.physics import physics

TASKS = ["walker-walk", "cheetah-run", "HalfCheetah-v5", "Hopper-v5", "Ant-v5"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("poison", [1e30, np.nan, np.inf])
def test_divergence_is_reported_and_nothing_else_changes(task, poison):
    env = envs.make(task, seed=0)
    before, _ = env.reset()
    _, data = physics(env)
    data.qvel[0] = poison
    observation, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert info["unstable"] is True
    assert np.isfinite(observation).all()
    assert np.array_equal(observation, before)
    assert (reward, terminated, truncated) == (0.0, False, True)
    observation, info = env.reset()
    assert info["unstable"] is False
    *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert info["unstable"] is False


def test_divergence_within_a_repeated_action_keeps_what_was_earned_before():
    env = envs.make("walker-walk", seed=0, action_repeat=3)
    env.reset()
    inner, calls = env.unwrapped.step, []

    def step(action):
        calls.append(action)
        if len(calls) == 2:
            physics(env)[1].qvel[0] = 1e30
        return inner(action)

    env.unwrapped.step = step
    _, reward, _, truncated, info = env.step(np.zeros(6))
    assert len(calls) == 2
    assert truncated
    assert info["unstable"]
    assert reward > 0


@pytest.mark.parametrize("name", ["NaN", "InPlace", "TooLarge"])
def test_an_observation_that_is_no_number_is_reported_without_mujoco(name):
    env = envs.make(f"tests.envs.own:{name}-v0", seed=0)
    env.reset()
    steps = [env.step([0, 0]) for _ in range(3)]
    assert [info["unstable"] for *_, info in steps] == [False, False, True]
    assert np.array_equal(steps[2][0], steps[1][0])


def test_ordinary_play_is_stable():
    for task in ("walker-run", "Humanoid-v5"):
        env = envs.make(task, seed=0)
        env.reset()
        for _ in range(100):
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            assert not info["unstable"]
            if terminated or truncated:
                env.reset()


def test_divergence_is_not_shouted(caplog, capfd):
    env = envs.make("walker-walk", seed=0)
    env.reset()
    physics(env)[1].qvel[0] = 1e30
    with caplog.at_level(logging.WARNING):
        env.step(np.zeros(6))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
