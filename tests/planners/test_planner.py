"""What is no promise of every planner: plans, knobs, what the loop keeps, and what tells CEM from MPPI."""

from dataclasses import replace

import pytest
import torch

import planners
from planners import Gaussian, Plan, PlannerError, Scored
from tests.planners.toy import bowl, seeded, uniform


def plan_of(actions: torch.Tensor, elites: torch.Tensor | None = None) -> Plan:
    nothing = torch.zeros(len(actions))
    return Plan(actions, nothing, torch.ones_like(actions), 1, 1, nothing == 0, nothing, elites)


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
    plan = planner.plan(score, generator=seeded(0))
    again = planner.plan(score, warm_start=plan, generator=seeded(1))
    assert again.value >= plan.value


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
        {"remember": -1},
        {"noise_beta": -0.1},
        {"noise_beta": float("nan")},
        {"knots": 0},
        {"knots": 3},
        {"elites": True},
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


def scored(elites: torch.Tensor, values: torch.Tensor) -> Scored:
    return Scored(elites, values, elites, values)


def test_cem_weighs_elites_alike_and_mppi_by_value():
    found = scored(torch.tensor([[1.0, 0.0]]).reshape(1, 2, 1, 1), torch.tensor([[2.0, 0.0]]))
    start = Gaussian(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    cem = planners.make("cem", horizon=1, action_dim=1, momentum=0.0).update(start, found)
    torch.testing.assert_close(cem.mean.item(), 0.5)
    torch.testing.assert_close(cem.std.item(), 0.5)
    mppi = planners.make("mppi", horizon=1, action_dim=1, temperature=2.0).update(start, found)
    share = 1 / (1 + torch.e**-1)
    torch.testing.assert_close(mppi.mean.item(), share, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mppi.std.item(), (share * (1 - share)) ** 0.5, rtol=1e-5, atol=1e-6)
    smoothed = planners.make("cem", horizon=1, action_dim=1, momentum=0.5).update(start, found)
    torch.testing.assert_close(smoothed.mean.item(), 0.25)


@pytest.mark.parametrize("name", ["cem", "mppi", "icem"])
def test_elites_with_bad_scores_weigh_nothing(name):
    elites = torch.tensor([[0.4, 0.9], [0.4, 0.9]]).reshape(2, 2, 1, 1)
    found = scored(elites, torch.tensor([[1.0, -torch.inf], [-torch.inf, -torch.inf]]))
    start = Gaussian(torch.zeros(2, 1, 1), torch.ones(2, 1, 1))
    momentum = {} if name == "mppi" else {"momentum": 0.0}
    fit = planners.make(name, horizon=1, action_dim=1, min_std=0.1, initial_std=1.0, **momentum).update(start, found)
    torch.testing.assert_close(fit.mean.flatten(), torch.tensor([0.4, 0.0]))
    torch.testing.assert_close(fit.std.flatten(), torch.tensor([0.1, 1.0]))


def test_predictive_sampling_moves_to_the_best_and_stays_as_wide():
    found = scored(torch.tensor([[0.7, 0.0]]).reshape(1, 2, 1, 1), torch.tensor([[2.0, 0.0]]))
    start = Gaussian(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.3))
    after = planners.make("predictive", horizon=1, action_dim=1).update(start, found)
    torch.testing.assert_close(after.mean.item(), 0.7)
    assert torch.equal(after.std, start.std)


def test_shooting_is_uniform_and_learns_nothing():
    planner = planners.make("shooting", horizon=2, action_dim=1, samples=20_000)
    search = planner.init(torch.full((2, 2, 1), 0.9), seeded(0))
    drawn = planner.sample(search, 0, seeded(0))
    assert drawn.shape == (2, 20_000, 2, 1)
    quarters = torch.histc(drawn[0, :, 1], bins=4, min=-1, max=1) / 20_000
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), rtol=0, atol=0.02)
    after = planner.update(search, scored(drawn[:, :3], torch.zeros(2, 3)))
    assert torch.equal(planner.sample(after, 5, seeded(0)), drawn)


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_the_search_begins_around_the_warm_start_and_never_narrows_to_nothing(name):
    planner = planners.make(name, horizon=3, action_dim=2, initial_std=0.2, min_std=0.1, samples=4000)
    start = torch.full((2, 3, 2), 0.5)
    search = planner.init(start, seeded(0))
    assert torch.equal(search.mean, start)
    candidates = planner.sample(search, 0, seeded(0))
    torch.testing.assert_close(candidates.mean(1), start, rtol=0, atol=0.02)
    torch.testing.assert_close(candidates.std(1), torch.full_like(start, 0.2), rtol=0, atol=0.02)
    alike = planner.refit(torch.zeros(2, 5, 3, 2), torch.full((2, 5), 0.2))
    assert (alike.std == 0.1).all()
    apart = planner.refit(torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1).expand(2, 2, 3, 2), torch.full((2, 2), 0.5))
    assert (apart.std == 0.2).all()


@pytest.mark.parametrize("name", ["cem", "cmaes", "icem", "mppi", "predictive"])
def test_nothing_is_learned_from_bad_scores(name):
    planner = planners.make(name, horizon=3, action_dim=2, samples=12, iterations=4, initial_std=0.7)
    plan = planner.plan(lambda a: torch.full(a.shape[:2], torch.nan), warm_start=torch.full((1, 3, 2), 0.3))
    torch.testing.assert_close(plan.std, torch.full((1, 3, 2), 0.7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", planners.names())
@pytest.mark.parametrize("knots", [None, 2])
def test_a_plan_tells_what_is_at_stake(name, knots):
    """How much more the best of what is drawn first promises than the median, not how the search ends."""
    drawn = []

    def score(actions):
        values = torch.tensor([1e-6, 1e6]).reshape(2, 1) * bowl(0.3)(actions)
        drawn.append(values[:, 1:].detach())  # after the warm start
        return values

    planner = planners.make(name, horizon=3, action_dim=2, samples=63, knots=knots)
    plan = planner.plan(score, batch=2, generator=seeded(0))
    expected = drawn[0].amax(dim=1) - drawn[0].median(dim=1).values
    assert (expected > 0).all()
    torch.testing.assert_close(plan.stakes, expected)


def test_less_at_stake_is_explored_more_widely():
    stakes = torch.tensor([0.0, 1.0, 3.0, 4.0, 9.0])
    plan = replace(plan_of(torch.full((5, 3, 2), 0.8)), std=torch.full((5, 3, 2), 0.2), stakes=stakes)
    widened = plan.widened(least=4.0)
    torch.testing.assert_close(widened.std[:, 2, 1], torch.tensor([1.0, 0.8, 0.4, 0.2, 0.2]))
    for name in ("actions", "value", "valid", "stakes"):
        assert getattr(widened, name) is getattr(plan, name)
    assert torch.equal(plan.widened(0.0).std, plan.std)


def test_nothing_is_at_stake_among_bad_candidates_and_they_say_nothing_of_the_others():
    planner = planners.make("mppi", horizon=3, action_dim=2, samples=63)
    assert (planner.plan(lambda a: torch.full(a.shape[:2], torch.nan)).stakes == 0).all()
    bad = lambda a: torch.where(torch.arange(a.shape[1]) % 4 > 0, torch.nan, bowl(0.3)(a))  # noqa: E731
    assert (planner.plan(bad, generator=seeded(0)).stakes > 1e9).all()


def test_cmaes_stays_near_the_box_where_the_best_lies_outside():
    """Of candidates that are clipped to the same actions, the one that lay nearer to the box is the better one."""

    class Traced(planners.CMAES):
        def update(self, search, scored):
            means.append(super().update(search, scored).strategies[0].mean)
            return search

    means = []
    plan = Traced(planners.CMAESConfig(1, 2, samples=12, iterations=40)).plan(bowl(3.0), generator=seeded(1))
    assert (plan.actions == 1).all()
    assert abs(means[-1]).max() < 1.1


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


def test_what_is_shifted_out_is_shifted_in_the_memory_too():
    elites = uniform(0, 1, 2, 3, 2)
    moved = plan_of(uniform(1, 1, 3, 2), elites).shift(2).elites
    assert torch.equal(moved[:, :, 0], elites[:, :, 2])
    assert (moved[:, :, 1:] == 0).all()
    assert plan_of(uniform(1, 1, 3, 2)).shift().elites is None


def test_no_more_is_remembered_than_is_asked_for_and_kept():
    score = lambda a: a.sum(dim=(2, 3))  # noqa: E731
    for knobs, count in [({"remember": 5}, 5), ({"remember": 5, "keep": 3}, 3), ({"remember": 5, "elites": 2}, 2)]:
        plan = planners.make("cem", horizon=2, action_dim=1, **knobs).plan(score, generator=seeded(0))
        assert plan.elites.shape[1] == count
        assert (score(plan.elites)[0].diff() <= 0).all()
    # A planner that remembers nothing lets a memory that it is given rest.
    forgetful = planners.make("cem", horizon=2, action_dim=1, samples=8, iterations=1, execute="best")
    assert forgetful.plan(score, warm_start=plan).evaluations == 9


def test_kept_elites_are_scored_once():
    """Five iterations of ten candidates, with the start among the first, whatever is kept."""
    seen = []

    def score(actions):
        seen.append(actions)
        return -(actions**2).sum(dim=(2, 3))

    planner = planners.make("cem", horizon=2, action_dim=2, samples=10, iterations=5, keep=5, execute="best")
    plan = planner.plan(score, warm_start=uniform(0, 1, 2, 2))
    assert [actions.shape[1] for actions in seen] == [11, 10, 10, 10, 10]
    assert plan.value == max(-(actions**2).sum(dim=(2, 3)).min() for actions in seen)


def test_a_start_that_no_knots_give_is_still_a_plan():
    zigzag = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 4, 1)
    planner = planners.make("mppi", horizon=4, action_dim=1, knots=2, interpolation="linear")
    plan = planner.plan(lambda a: -((a - zigzag) ** 2).sum(dim=(2, 3)), warm_start=zigzag)
    assert torch.equal(plan.actions, zigzag)
    assert plan.value == 0
