import subprocess
import sys
import time
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agent import ConfigError, ObservationError, preset
from planners import PlannerError
from tests.agent.toy import Point, shake, tiny_agent

PLANNERS = ["mppi", "cem", "policy"]


@pytest.mark.parametrize("planner", PLANNERS)
def test_acts_for_one_environment_or_a_batch(planner):
    agent = tiny_agent().use_planner(planner=planner)
    for explore in (False, True):
        one = agent.act(np.zeros(5), explore=explore)
        assert one.shape == (2,)
        assert one.dtype == np.float32
        many = agent.act(np.zeros((3, 5), np.float64), explore=explore)
        assert many.shape == (3, 2)
        assert np.abs(many).max() <= 1


@pytest.mark.parametrize("planner", PLANNERS)
def test_the_same_seed_gives_the_same_actions(planner):
    agent = tiny_agent().use_planner(planner=planner)
    runs = []
    for _ in range(2):
        agent.seed(5)
        agent.reset()
        runs.append([agent.act(np.full(5, t / 5), explore=True) for t in range(4)])
    assert np.array_equal(*runs)


def test_planning_carries_on_from_the_last_plan():
    agent = tiny_agent()
    agent.act(np.zeros(5))
    assert agent.running is not None
    agent.act(np.zeros((3, 5)))  # another number of environments can't go on from it
    assert len(agent.running.plan.actions) == 3
    agent.reset()
    assert agent.running is None


@pytest.fixture
def watched(monkeypatch):
    """An agent with something to say, and what its planner was given and gave, call by call."""
    agent, calls = tiny_agent(), []
    shake(agent.model)
    real = agent.planner.plan

    def plan(score, **given):
        calls.append((given, real(score, **given)))
        return calls[-1][1]

    monkeypatch.setattr(agent.planner, "plan", plan)
    return agent, calls


def test_the_search_is_given_the_last_plan_and_proposals_of_the_prior(watched):
    agent, calls = watched
    actions = [agent.act(np.full(5, t / 2)) for t in range(2)]
    (first, plan), (second, _) = calls
    assert first["warm_start"] is None
    assert torch.equal(second["warm_start"].actions, plan.shift().actions)
    assert first["proposals"].shape == (1, agent.planning.proposals, agent.planning.horizon, 2)
    # All candidates, the start and the mean.
    assert plan.evaluations == agent.planning.samples * agent.planning.iterations + agent.planning.proposals + 2
    assert np.array_equal(actions[0], plan.actions[0, 0].numpy())


def test_predict_hands_its_state_to_the_search(watched):
    agent, calls = watched
    observation = np.ones((2, 5), np.float32)
    _, state = agent.predict(observation, deterministic=True)
    assert np.array_equal(state[0], calls[0][1].shift().actions.numpy())
    assert np.abs(state[0]).min(axis=(1, 2)).max() == 0  # beyond the horizon
    assert np.abs(state[0]).max() > 0
    agent.predict(observation, state, np.array([True, False]), deterministic=True)
    given = calls[1][0]["warm_start"].actions.numpy()
    assert (given[0] == 0).all()
    assert np.array_equal(given[1], state[0][1])


@pytest.mark.parametrize("planner", PLANNERS)
def test_exploring_adds_noise_to_the_same_plan(planner):
    agent = tiny_agent().use_planner(planner=planner)
    shake(agent.model, std=0.1)  # more, and the policy may come out sure of itself

    def acted(call):
        agent.seed(3)
        agent.reset()
        return call(np.ones(5))

    plain, explored = acted(agent.act), acted(lambda x: agent.act(x, explore=True))
    assert np.abs(plain - explored).max() > 1e-4
    assert np.array_equal(acted(lambda x: agent.predict(x, deterministic=True)[0]), plain)
    assert np.array_equal(acted(lambda x: agent.predict(x)[0]), explored)


def test_where_candidates_promise_alike_exploring_is_as_wide_as_at_random():
    agent = tiny_agent().use_planner(planner="mppi")
    shake(agent.model)

    def acted(indifference, noise=None):
        agent.use_planner(indifference=indifference).seed(0)
        return agent.act(np.ones(5), noise is not None, noise)

    plan = acted(0.0)
    assert np.array_equal(acted(1e9), plan)
    noise = -0.7 * np.sign(plan)  # not out of the box
    assert np.allclose(acted(1e9, noise), plan + noise, atol=1e-5)
    assert np.abs(acted(0.0, noise) - plan).max() < 0.5


def test_predict_carries_its_state_and_forgets_it_where_an_episode_starts():
    agent = tiny_agent()
    observation = np.zeros((2, 5), np.float32)
    _, state = agent.predict(observation, deterministic=True)
    assert state[0].shape == (2, agent.planning.horizon, 2)
    after = []
    for start in ([False, False], [True, False], [True, True]):
        agent.seed(0)
        after.append(agent.predict(observation, state, np.array(start), deterministic=True)[0])
    agent.seed(0)
    fresh, _ = agent.predict(observation, deterministic=True)
    assert np.allclose(after[1][0], fresh[0], atol=1e-5)
    assert np.allclose(after[1][1], after[0][1], atol=1e-5)
    assert np.allclose(after[2], fresh, atol=1e-5)
    for start in ([True], [False]):
        with pytest.raises(ValueError, match="episode_start has 1 elements"):
            agent.predict(observation, state, np.array(start))
    action, _ = agent.predict(observation[0])
    assert action.shape == (2,)


@pytest.mark.parametrize("planner", ["mppi", "policy"])
def test_stable_baselines3_can_evaluate_an_agent(planner):
    agent = tiny_agent(2, 1).use_planner(planner=planner)
    worlds = DummyVecEnv([lambda: Monitor(Point(can_terminate=True)) for _ in range(2)])
    returns, lengths = evaluate_policy(agent, worlds, n_eval_episodes=4, return_episode_rewards=True)
    assert len(returns) == 4
    assert all(0 < length <= 20 for length in lengths)
    mean, _ = evaluate_policy(agent, Monitor(Point()), n_eval_episodes=2)
    assert np.isfinite(mean)


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (np.zeros(4), r"shape \(4,\).*expects \(5,\)"),
        (np.zeros((2, 3, 5)), "shape"),
        (np.array([0, 0, np.nan, 0, 0]), "NaN or infinite"),
        (np.array([[0, 0, 0, 0, -np.inf]]), "NaN or infinite"),
    ],
)
def test_observations_it_cannot_act_on_are_refused_in_one_sentence(observation, said):
    agent = tiny_agent()
    for call in (agent.act, agent.predict, agent.plan):
        with pytest.raises(ObservationError, match=said) as error:
            call(observation)
        assert "\n" not in str(error.value)


def test_a_plan_can_be_looked_at():
    agent = tiny_agent()
    plan = agent.plan(np.zeros(5))
    assert plan.actions.shape == (1, 3, 2)
    assert plan.evaluations >= agent.planning.samples * agent.planning.iterations
    again = agent.plan(np.zeros(5), warm_start=plan.shift().actions, deadline=time.monotonic() - 1)
    assert again.iterations == 1
    with pytest.raises(ConfigError, match="policy prior alone"):
        agent.use_planner(planner="policy").plan(np.zeros(5))


def test_planners_and_options_that_do_not_exist():
    agent = tiny_agent()
    with pytest.raises(PlannerError, match="unknown planner"):
        agent.use_planner(planner="cma")
    with pytest.raises(ConfigError, match="no such planning option"):
        agent.use_planner(sampels=3)
    with pytest.raises(PlannerError, match="elites"):
        agent.use_planner(elites=True)
    assert agent.planning.planner == "mppi"
    assert agent.plan(np.zeros(5)).iterations == 3  # as before
    with pytest.raises(ConfigError, match="unknown preset 'smal'; did you mean 'small'"):
        preset("smal")


def test_presets_differ_in_size_only():
    sizes = {
        "model": {"latent_dim", "hidden_dim", "encoder_dim", "value_heads"},
        "learner": {"batch_size"},
        "planning": {"samples", "iterations", "elites", "proposals"},
    }
    small, others = preset("small"), [preset("tiny"), preset("base")]
    for other in others:
        for name in vars(small):
            if name not in sizes:
                assert getattr(small, name) == getattr(other, name)
                continue
            mine, theirs = vars(getattr(small, name)), vars(getattr(other, name))
            assert {key for key in mine if mine[key] != theirs[key]} <= sizes[name]


def test_base_has_the_size_of_tdmpc2():
    from agent import Agent, AgentInfo

    config = preset("base")
    config = replace(config, model=replace(config.model, reward_head="own"))  # as TD-MPC2 has it
    model = Agent(config, 24, 6, AgentInfo("walker-walk", 2, 500, False), "cpu").model
    count = sum(p.numel() for p in model.parameters())
    assert 4.5e6 < count < 5.5e6


def test_the_agent_does_not_need_the_worlds():
    """A user with an `envs` package of their own, or none, can still import the agent."""
    code = (
        "import sys, agent; sys.exit(any(m == 'envs' or m.startswith(('dm_control', 'mujoco')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_gymnasium_spaces_are_those_of_the_task():
    agent = tiny_agent()
    assert agent.observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    assert agent.action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    assert agent.device == torch.device("cpu")
