"""The parts of the room that are not promises of every planner: plans, names, knobs, and what tells CEM from MPPI."""

import pytest
import torch

import planners
from planners import Gaussian, Plan, PlannerError


def plan_of(actions: torch.Tensor) -> Plan:
    return Plan(actions, torch.zeros(len(actions)), torch.ones_like(actions), 1, 1, torch.ones(len(actions)).bool())


def test_shift_moves_the_plan_one_decision_on():
    plan = plan_of(torch.arange(6.0).reshape(1, 3, 2) / 6)
    shifted = plan.shift()
    assert torch.equal(shifted.actions[:, :2], plan.actions[:, 1:])
    assert (shifted.actions[:, 2] == 0).all()
    assert torch.equal(shifted.std[:, :2], plan.std[:, 1:])
    assert (shifted.std[:, 2] == 0).all()
    assert torch.equal(plan.shift(0).actions, plan.actions)
    assert (plan.shift(7).actions == 0).all()
    with pytest.raises(ValueError, match="0 or more"):
        plan.shift(-1)


def test_a_plan_can_be_the_next_warm_start():
    planner = planners.make("mppi", horizon=3, action_dim=2)
    score = lambda a: a.sum(dim=(2, 3))  # noqa: E731
    plan = planner.plan(score, generator=torch.Generator().manual_seed(0))
    again = planner.plan(score, warm_start=plan, generator=torch.Generator().manual_seed(1))
    assert again.value >= plan.value


def test_unknown_names_say_what_there_is():
    with pytest.raises(PlannerError, match="unknown planner 'mpi'; did you mean 'mppi'"):
        planners.make("mpi", horizon=1, action_dim=1)
    with pytest.raises(PlannerError, match="no option 'sample'; did you mean 'samples'"):
        planners.make("cem", horizon=1, action_dim=1, sample=3)


@pytest.mark.parametrize(
    "knobs",
    [
        {"horizon": 0},
        {"samples": 0},
        {"keep": 0},
        {"min_std": 0.0},
        {"initial_std": float("nan")},
        {"min_std": 2.0},
        {"execute": "worst"},
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs):
    with pytest.raises(PlannerError, match=next(iter(knobs))):
        planners.make("cem", **({"horizon": 2, "action_dim": 1} | knobs))
    with pytest.raises(PlannerError, match="temperature"):
        planners.make("mppi", horizon=2, action_dim=1, temperature=0.0)
    with pytest.raises(PlannerError, match="momentum"):
        planners.make("cem", horizon=2, action_dim=1, momentum=1.0)


def test_shapes_that_do_not_fit_are_refused():
    planner = planners.make("cem", horizon=3, action_dim=2)
    score = lambda a: a.sum(dim=(2, 3))  # noqa: E731
    with pytest.raises(PlannerError, match="warm start has shape"):
        planner.plan(score, warm_start=torch.zeros(1, 2, 2))
    with pytest.raises(PlannerError, match="proposals have shape"):
        planner.plan(score, proposals=torch.zeros(1, 4, 3, 1))
    with pytest.raises(PlannerError, match="score returned shape"):
        planner.plan(lambda a: a.sum(dim=(1, 2, 3)))


def test_a_name_can_be_registered_once():
    with pytest.raises(PlannerError, match="already registered"):
        planners.register("cem")(planners.CEM)


def test_cem_weighs_elites_alike_and_mppi_by_value():
    elites = torch.tensor([[1.0, 0.0]]).reshape(1, 2, 1, 1)
    values = torch.tensor([[2.0, 0.0]])
    start = Gaussian(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    cem = planners.make("cem", horizon=1, action_dim=1, momentum=0.0).update(start, elites, values)
    torch.testing.assert_close(cem.mean.item(), 0.5)
    torch.testing.assert_close(cem.std.item(), 0.5)
    mppi = planners.make("mppi", horizon=1, action_dim=1, temperature=2.0).update(start, elites, values)
    share = 1 / (1 + torch.e**-1)
    torch.testing.assert_close(mppi.mean.item(), share, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mppi.std.item(), (share * (1 - share)) ** 0.5, rtol=1e-5, atol=1e-6)
    smoothed = planners.make("cem", horizon=1, action_dim=1, momentum=0.5).update(start, elites, values)
    torch.testing.assert_close(smoothed.mean.item(), 0.25)


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_the_search_begins_around_the_warm_start_and_never_narrows_to_nothing(name):
    planner = planners.make(name, horizon=3, action_dim=2, initial_std=0.2, min_std=0.1, samples=4000)
    start = torch.full((2, 3, 2), 0.5)
    search = planner.init(start)
    assert torch.equal(search.mean, start)
    candidates = planner.sample(search, torch.Generator().manual_seed(0))
    torch.testing.assert_close(candidates.mean(1), start, rtol=0, atol=0.02)
    torch.testing.assert_close(candidates.std(1), torch.full_like(start, 0.2), rtol=0, atol=0.02)
    alike = planner.refit(torch.zeros(2, 5, 3, 2), torch.full((2, 5), 0.2))
    assert (alike.std == 0.1).all()
    apart = planner.refit(torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1).expand(2, 2, 3, 2), torch.full((2, 2), 0.5))
    assert (apart.std == 0.2).all()


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_nothing_is_learned_from_bad_scores(name):
    planner = planners.make(name, horizon=3, action_dim=2, initial_std=0.7)
    plan = planner.plan(lambda a: torch.full(a.shape[:2], torch.nan), warm_start=torch.full((1, 3, 2), 0.3))
    assert (plan.std == 0.7).all()


@pytest.mark.parametrize("execute", ["mean", "best"])
def test_mean_or_best_is_executed(execute):
    """Both beat the start here; the mean is a sequence that was no candidate."""
    seen, values = [], []

    def bowl(actions):
        seen.append(actions)
        values.append(-((actions - 0.5) ** 2).sum(dim=(2, 3)))
        return values[-1]

    plan = planners.make("cem", horizon=2, action_dim=2, samples=50, iterations=2, execute=execute).plan(bowl)
    iterations = torch.cat(values[:2], dim=1)
    assert plan.value > -1  # the start's
    if execute == "best":
        assert len(seen) == 2
        assert plan.value == iterations.max()
    else:
        assert torch.equal(plan.actions, seen[2][:, 0])
        assert not (torch.cat(seen[:2], dim=1)[0] == plan.actions).all(dim=(1, 2)).any()
        assert plan.value == values[2]
