"""Planning in the true dynamics."""

import json

import pytest
import torch

import envs
from agent import PlanningConfig, play
from preplay.actors import cast
from preplay.errors import UsageError
from preplay.simulated import SimulatorActor
from tests.preplay.conftest import TASK

SMALL = {"horizon": 6, "samples": 12, "iterations": 2}


def test_it_keeps_what_it_promises():
    """In the simulator, what a plan predicts is what carrying it out brings."""
    env = envs.make("cartpole-swingup", action_repeat=4, max_episode_steps=80)
    with envs.Simulator("cartpole-swingup", action_repeat=4) as simulator:
        planning = PlanningConfig("icem", horizon=5, samples=20, iterations=2, elites=5, proposals=0, replan_every=5)
        episodes = play(SimulatorActor(env, simulator, planning), env, [3])
    env.close()
    for first in range(0, 20, 5):
        assert episodes.predicted[first] == pytest.approx(sum(episodes.rewards[first : first + 5]), rel=1e-5)
        assert episodes.evaluations[first + 1] == 0


def test_the_agents_value_counts_where_the_horizon_ends(checkpoint):
    who = cast(TASK, "mppi", checkpoint, model="simulator+value", **SMALL)
    env = who.env()
    actor = who.actor(env)
    observation, _ = env.reset(seed=0)
    actor.seed(0)
    actor.act(observation)
    plan = actor.last_plan
    state = actor.simulator.snapshot(env)
    agent = actor.agent
    imagined = actor.simulator.imagine(state, plan.actions.unsqueeze(1))
    discount = agent.model.discount
    earned = sum(discount**t * imagined.rewards[0, 0, t].item() for t in range(6))
    for t in range(6):
        observation, *_ = env.step(plan.actions[0, t].numpy())
    end = agent.value(torch.from_numpy(observation).unsqueeze(0)).item()
    assert plan.value.item() == pytest.approx(earned + discount**6 * end, rel=1e-4, abs=1e-4)
    env.close()


def test_no_agent_is_needed_to_plan_in_the_simulator(preplay):
    options = ["--model", "simulator", "--episodes", 1, "--horizon", 3, "--samples", 4, "--iterations", 1]
    code, out, err = preplay("run", "Reacher-v5", *options, "--planner", "cem", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["planner"], result["model"], result["checkpoint"]) == ("cem", "simulator", None)
    assert result["planning"] == {"horizon": 3, "iterations": 1, "samples": 4}
    code, again, _ = preplay("run", "Reacher-v5", *options, "--planner", "cem", "--json")
    assert json.loads(again)["returns"] == result["returns"]


def test_a_budget_and_its_misses_are_told(preplay, checkpoint):
    code, out, _ = preplay("run", TASK, "--checkpoint", checkpoint, "--episodes", 1, "--budget-ms", 0.01)
    assert code == 0
    assert "25 of 25 decisions (100.0%) took longer than 0.01 ms" in out


def test_what_can_not_be_is_refused(preplay, checkpoint):
    with pytest.raises(UsageError, match="unknown model 'simulater'; did you mean 'simulator'"):
        cast(TASK, "mppi", checkpoint, model="simulater")
    with pytest.raises(UsageError, match="needs the score's gradient"):
        cast(TASK, "gradient", checkpoint, model="simulator")
    with pytest.raises(UsageError, match="no trained agent ships"):
        cast("pendulum-swingup", "mppi", model="simulator+value")
    code, _, err = preplay("run", TASK, "--checkpoint", checkpoint, "--interpolation", "cubik", "--knots", 2)
    assert code == 2
    assert "interpolation" in err
    code, _, err = preplay("run", TASK, "--checkpoint", checkpoint, "--replan-every", 9)
    assert code == 2
    assert "replan_every" in err
    code, _, err = preplay("run", "tests.envs.own:Chatty-v0", "--model", "simulator", "--episodes", 1)
    assert code == 2
    assert "MuJoCo" in err
