"""What goes from one decision to the next."""

import time

import numpy as np
import pytest
import torch

import planners
from agent import ConfigError, PlanningConfig, play
from agent.running import Running, decide, from_arrays, to_arrays
from planners import Plan, PlannerError
from tests.agent.toy import Point, shake, tiny_agent


def plan_of(first: float, batch: int = 1, elites: torch.Tensor | None = None) -> Plan:
    actions = torch.full((batch, 3, 2), first) + torch.arange(3.0).view(1, 3, 1) / 10
    value = torch.zeros(batch)
    valid = torch.ones(batch, dtype=torch.bool)
    return Plan(actions, value, torch.full_like(actions, 0.5), 7, 1, valid, value, elites)


class Recorder:
    """A search that answers with one plan after another and remembers what it was given."""

    def __init__(self, *plans: Plan) -> None:
        self.plans, self.given = list(plans), []

    def __call__(self, warm_start: Plan | None, deadline: float | None) -> Plan:
        self.given.append((warm_start, deadline))
        return self.plans[len(self.given) - 1]


def test_a_plan_is_carried_out_for_as_many_decisions_as_wanted():
    search = Recorder(plan_of(0.1), plan_of(0.5))
    planning = PlanningConfig(horizon=3, replan_every=2)
    running, actions, made = None, [], []
    for _ in range(3):
        decision = decide(planning, running, 1, search)
        running = decision.running
        actions.append(decision.action[0, 0].item())
        made.append(decision.plan is not None)
    assert actions == pytest.approx([0.1, 0.2, 0.5])
    assert made == [True, False, True]
    assert search.given[0][0] is None
    # The new search begins where the old plan would have gone on.
    assert torch.equal(search.given[1][0].actions, plan_of(0.1).shift(2).actions)


def test_another_number_of_environments_begins_anew():
    search = Recorder(plan_of(0.1), plan_of(0.5, batch=3))
    planning = PlanningConfig(horizon=3, replan_every=3)
    running = decide(planning, None, 1, search).running
    decision = decide(planning, running, 3, search)
    assert decision.action.shape == (3, 2)
    assert search.given[1][0] is None


def test_the_budget_becomes_a_deadline():
    search = Recorder(plan_of(0.1), plan_of(0.1))
    before = time.monotonic()
    decide(PlanningConfig(budget_ms=250.0), None, 1, search)
    assert before + 0.25 <= search.given[0][1] <= time.monotonic() + 0.25
    decide(PlanningConfig(), None, 1, search)
    assert search.given[1][1] is None


def test_a_running_plan_survives_as_arrays():
    elites = torch.rand(2, 4, 3, 2)
    running = Running(plan_of(0.3, 2, elites), 1)
    state = to_arrays(running)
    assert all(isinstance(x, np.ndarray) and len(x) == 2 for x in state)
    back = from_arrays(state, None, torch.device("cpu"))
    assert back.age == 1
    for name in ("actions", "std", "elites"):
        assert torch.equal(getattr(back.plan, name), getattr(running.plan, name))
    begun = from_arrays(state, np.array([True, False]), torch.device("cpu"))
    assert (begun.plan.actions[0] == 0).all()
    assert (begun.plan.elites[0] == 0).all()
    assert torch.equal(begun.plan.actions[1], running.plan.actions[1])
    planning = PlanningConfig(horizon=3, replan_every=3)
    assert decide(planning, begun, 2, Recorder(plan_of(0.0, 2))).plan is not None
    none = from_arrays(to_arrays(Running(plan_of(0.3), 1)), None, torch.device("cpu"))
    assert none.plan.elites is None


@pytest.mark.parametrize("planner", [name for name in planners.names() if name != "policy"])
def test_every_planner_acts_for_an_agent_with_every_option(planner):
    agent = tiny_agent(2, 1)
    shake(agent.model)
    agent.use_planner(
        planner=planner,
        horizon=4,
        samples=12,
        iterations=2,
        knots=2,
        interpolation="linear",
        noise_beta=1.0 if planners.get(planner).colours_noise else None,
        execute="best",
        replan_every=2,
    )
    agent.seed(3)
    actions = [agent.act(np.full(2, t / 4)) for t in range(4)]
    assert np.abs(actions).max() <= 1
    agent.seed(3)
    state, predicted = None, []
    for t in range(4):
        action, state = agent.predict(np.full(2, t / 4), state, deterministic=True)
        predicted.append(action)
    assert np.allclose(actions, predicted, atol=1e-6)


def test_acting_tells_which_plan_it_came_from():
    agent = tiny_agent(2, 1).use_planner(replan_every=2)
    agent.act(np.zeros(2))
    assert agent.last_plan is not None
    agent.act(np.zeros(2))
    assert agent.last_plan is None
    assert agent.use_planner(planner="policy").last_plan is None


def test_an_elite_is_remembered_from_one_decision_to_the_next():
    agent = tiny_agent(2, 1).use_planner(planner="icem", samples=20, elites=5)
    agent.act(np.zeros(2))
    kept = agent.last_plan.elites
    assert kept.shape == (1, 3, agent.planning.horizon, 1)
    assert torch.equal(agent.running.plan.elites[:, :, :-1], kept[:, :, 1:])


def test_misses_of_the_budget_are_counted():
    agent = tiny_agent(2, 1)
    shake(agent.model)
    late = play(agent.use_planner(budget_ms=1e-3), Point(), [0, 1])
    assert late.misses == [20, 20]
    in_time = play(agent.use_planner(budget_ms=60_000.0), Point(), [0, 1])
    assert in_time.misses == [0, 0]
    assert in_time.evaluations[0] > late.evaluations[0]  # an iteration is all there was time for
    assert play(agent.use_planner(budget_ms=None), Point(), [0]).misses == [0]


def test_a_planner_of_its_own_size_begins_with_it():
    planning = PlanningConfig(samples=200, iterations=3)
    climbing = planning.changed(planner="gradient")
    own = planners.get("gradient").Config
    assert (climbing.samples, climbing.iterations) == (own.samples, own.iterations)
    assert planning.changed(planner="gradient", samples=5).samples == 5
    assert planning.changed(planner="cem").samples == 200
    for back in (climbing.changed(planner="mppi"), climbing.changed(planner="policy").changed(planner="mppi")):
        assert (back.samples, back.iterations) == (PlanningConfig.samples, PlanningConfig.iterations)
    assert climbing.changed(planner="mppi", samples=7).samples == 7


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="replan_every"):
        PlanningConfig(horizon=3, replan_every=4)
    with pytest.raises(ConfigError, match="budget_ms"):
        PlanningConfig(budget_ms=0.0)
    with pytest.raises(PlannerError, match="knots"):
        PlanningConfig(horizon=3, knots=4).make(2)


def test_an_episode_is_told_apart_by_its_digest():
    agent = tiny_agent(2, 1)
    shake(agent.model)
    one, two = play(agent, Point(), [0, 1]), play(agent, Point(), [1, 0])
    assert one.digests == two.digests[::-1]
    assert one.digests[0] != one.digests[1]
    assert len(one.predicted) == len(one.rewards) == len(one.evaluations) == sum(one.lengths)
    assert np.isfinite(one.predicted).all()
    assert sum(one.rewards[:20]) == pytest.approx(one.returns[0])
    assert 0 <= one.saturated[0] <= 1
    prior = play(agent.use_planner(planner="policy"), Point(), [0])
    assert np.isnan(prior.predicted).all()
    assert prior.digests[0] != one.digests[0]
