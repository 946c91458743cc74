"""The one contract that every environment keeps."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import envs

OWN = "tests.envs.own:"
KNOWN = [task.name for task in envs.tasks()]
# What Gymnasium's checker recommends but does not require.
RECOMMENDED = re.compile(
    "different from the unwrapped version|Box observation space (maximum|minimum)|not an image|No render|render_modes|"
    "is not in 0-255|minimum is -inf|maximum is inf|width|CNN"
)


@pytest.mark.parametrize("task", [*KNOWN, f"{OWN}Own-v0", f"{OWN}Ending-v0", f"{OWN}Pixels-v0"])
def test_gymnasiums_own_checks_pass(task):
    env = envs.make(task)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    assert not [str(x.message) for x in said if not RECOMMENDED.search(str(x.message))]
    env.close()


@pytest.mark.parametrize("task", KNOWN)
def test_every_task_keeps_the_contract(task):
    env = envs.make(task, seed=1)
    assert isinstance(env.observation_space, spaces.Box)
    assert env.observation_space.dtype == np.float32
    assert env.observation_space.shape is not None
    assert len(env.observation_space.shape) == 1
    assert env.action_space == spaces.Box(-1, 1, env.action_space.shape, np.float32)
    observation, info = env.reset()
    assert observation in env.observation_space
    assert info["unstable"] is False
    observation, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert observation in env.observation_space
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert info["unstable"] is False
    env.close()


@pytest.mark.parametrize("task", ["walker-walk", "cup-catch", "Hopper-v5", f"{OWN}Own-v0"])
def test_a_seed_reproduces_an_episode(task):
    def episode(seed, how):
        env = envs.make(task, seed=seed if how == "make" else None)
        observations = [env.reset(seed=None if how == "make" else seed)[0]]
        actions = np.random.default_rng(0).uniform(-1, 1, (8, *env.action_space.shape))
        rewards = []
        for action in actions:
            observation, reward, *_ = env.step(action)
            observations.append(observation)
            rewards.append(reward)
        env.close()
        return np.concatenate(observations), rewards

    first, rewards = episode(3, "make")
    again, rewards_again = episode(3, "reset")
    assert np.array_equal(first, again)
    assert rewards == rewards_again
    assert not np.array_equal(first, episode(4, "make")[0])


def test_the_seed_given_to_make_is_for_the_first_episode_only():
    env = envs.make("walker-walk", seed=3)
    assert not np.array_equal(env.reset()[0], env.reset()[0])


def test_actions_are_rescaled_and_clipped():
    env = envs.make(f"{OWN}Own-v0")
    env.reset(seed=0)
    for action in ([-1, -1], [1, 1], [0, 0], [5, -5], [np.inf, -np.inf]):
        env.step(np.array(action, np.float32))
    expected = [[-0.4, -0.4], [3.0, 0.4], [1.3, 0.0], [3.0, -0.4], [3.0, -0.4]]
    np.testing.assert_allclose(env.unwrapped.seen, expected, atol=1e-12)
    true = env.get_wrapper_attr("true_action_space")
    np.testing.assert_allclose((true.low, true.high), ([-0.4, -0.4], [3.0, 0.4]))


@pytest.mark.parametrize(("task", "bound"), [("InvertedPendulum-v5", 3.0), ("Humanoid-v5", 0.4), ("Pusher-v5", 2.0)])
def test_gymnasiums_bounds_are_reached_and_never_crossed(task, bound):
    env = envs.make(task)
    env.reset(seed=0)
    for sign in (-1, 1):
        env.step(np.full(env.action_space.shape, sign * 7.0, np.float32))
        np.testing.assert_allclose(env.unwrapped.data.ctrl, sign * bound, rtol=1e-6)
    env.close()


@pytest.mark.parametrize("action", [[np.nan, 0.0], [0.0], [[0.0, 0.0]]])
def test_an_action_that_makes_no_sense_is_refused(action):
    env = envs.make(f"{OWN}Own-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action has"):
        env.step(np.array(action, np.float32))


def test_dict_observations_are_flattened():
    env = envs.make(f"{OWN}Own-v0")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (7,)
    observation, *_ = env.step([0, 0])
    np.testing.assert_allclose(observation[4:], 0.01)


def test_pixels_stay_pixels():
    observation, _ = envs.make(f"{OWN}Pixels-v0").reset(seed=0)
    assert observation.shape == (8, 8, 3)
    assert observation.dtype == np.uint8


def test_a_decision_repeats_its_action_and_sums_the_rewards():
    env = envs.make(f"{OWN}Ending-v0", action_repeat=2)
    env.reset(seed=0)
    steps = [env.step([0.5, 0.5])[1:4] for _ in range(3)]
    assert steps == [(2.0, False, False), (2.0, False, False), (1.0, True, False)]  # it ends at the fifth step
    assert env.get_wrapper_attr("task").decisions == 10


def test_the_time_limit_truncates_and_does_not_terminate():
    for task, decisions in (("walker-walk", 500), (f"{OWN}Own-v0", 20)):
        env = envs.make(task, seed=0)
        env.reset()
        for i in range(decisions):
            _, _, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape, np.float32))
            assert not terminated
            assert truncated == (i == decisions - 1)


def test_a_shorter_episode_can_be_asked_for():
    for task in ("walker-walk", "HalfCheetah-v5"):
        env = envs.make(task, seed=0, max_episode_steps=6, action_repeat=2)
        env.reset()
        ends = [env.step(np.zeros(env.action_space.shape, np.float32))[3] for _ in range(3)]
        assert ends == [False, False, True]
        assert env.get_wrapper_attr("task").decisions == 3


@pytest.mark.parametrize("task", ["pendulum-swingup", "Pendulum-v1"])
def test_a_longer_episode_can_be_asked_for(task):
    env = envs.make(task, seed=0, max_episode_steps=1004, action_repeat=4)
    env.reset()
    ends = [env.step(np.zeros(env.action_space.shape, np.float32))[2:4] for _ in range(251)]
    assert ends == [(False, False)] * 250 + [(False, True)]
    assert env.get_wrapper_attr("task").decisions == 251


def test_falling_terminates_and_does_not_truncate():
    env = envs.make("Hopper-v5", seed=0)
    env.reset()
    for _ in range(1000):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break
    assert (terminated, truncated) == (True, False)


def test_the_task_is_known():
    task = envs.make("cup-catch", action_repeat=4).get_wrapper_attr("task")
    assert (task.name, task.id, task.action_repeat, task.decisions) == ("cup-catch", "ball_in_cup/catch", 4, 250)


def test_the_environment_of_a_stranger_can_be_wrapped_further():
    env = gymnasium.wrappers.RecordEpisodeStatistics(envs.make("cartpole-balance", max_episode_steps=4))
    env.reset(seed=0)
    env.step([0.0])
    *_, info = env.step([0.0])
    assert info["episode"]["l"] == 2
