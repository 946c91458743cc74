"""Gradient ascent: what it needs of a score, and where it gets."""

import pytest
import torch

import planners
from planners import PlannerError
from tests.planners.toy import bowl, seeded, uniform

NAN, INF = float("nan"), float("inf")


def make(**knobs):
    return planners.make("gradient", **{"horizon": 3, "action_dim": 2} | knobs)


def test_it_climbs_to_the_optimum():
    goal = torch.tensor([[0.5, -0.3], [0.1, 0.7], [-0.9, 0.0]])
    plan = make(iterations=60).plan(bowl(goal), generator=seeded(0))
    torch.testing.assert_close(plan.actions[0], goal, rtol=0, atol=0.02)
    assert plan.evaluations == 60 * (8 + 1)


def test_it_stops_at_the_walls():
    seen = []

    def score(actions):
        seen.append(actions.detach())
        return bowl(torch.tensor([3.0, -2.0]))(actions)

    plan = make(iterations=40).plan(score, generator=seeded(0))
    assert torch.equal(plan.actions[0], torch.tensor([1.0, -1.0]).expand(3, 2))
    assert max(actions.abs().max() for actions in seen) <= 1


def test_one_step_of_adam_goes_the_learning_rate_uphill():
    seen = []

    def score(actions):
        seen.append(actions.detach())
        return (actions * torch.tensor([5.0, -0.01])).sum(dim=(2, 3))

    make(iterations=2, samples=1, learning_rate=0.1).plan(score, warm_start=torch.zeros(1, 3, 2))
    torch.testing.assert_close(seen[1][0, 0] - seen[0][0, 0], torch.tensor([0.1, -0.1]).expand(3, 2))


def test_it_agrees_with_torchs_adam():
    start, score = 0.3 * uniform(0, 1, 3, 2), lambda a: torch.sin(3 * a).sum(dim=(2, 3)) - (a**4).sum(dim=(2, 3))
    seen = []

    def traced(actions):
        seen.append(actions.detach()[0, 0])
        return score(actions)

    make(iterations=12, samples=1, learning_rate=0.02).plan(traced, warm_start=start, generator=seeded(0))
    point = start.clone().requires_grad_()
    adam = torch.optim.Adam([point], lr=0.02)
    for actions in seen:
        torch.testing.assert_close(actions, point[0].detach(), rtol=0, atol=1e-5)
        adam.zero_grad()
        (-score(point.unsqueeze(1)).sum()).backward()
        adam.step()


def test_the_warm_start_and_proposals_climb_too():
    """A narrow hill that no restart stands on."""
    peak = uniform(0, 3, 2) * 0.8
    narrow = lambda a: torch.exp(-50 * ((a - peak) ** 2).sum(dim=(2, 3)))  # noqa: E731
    near = (peak + 0.08).unsqueeze(0)
    assert narrow(near.unsqueeze(1)) < 0.2
    climb = make(iterations=60, learning_rate=0.01, samples=2)
    assert climb.plan(narrow, warm_start=near).value > 0.99
    assert climb.plan(narrow, proposals=near.unsqueeze(1)).value > 0.99


def test_knots_climb_as_well():
    plan = make(horizon=6, knots=2, interpolation="linear", iterations=60).plan(bowl(0.5), generator=seeded(0))
    torch.testing.assert_close(plan.actions, torch.full((1, 6, 2), 0.5), rtol=0, atol=0.05)


@pytest.mark.parametrize("interpolation", ["zero", "linear", "cubic"])
def test_slopes_are_those_of_the_knots(interpolation):
    class Traced(planners.GradientPlanner):
        def update(self, search, scored):
            found.append(scored)
            return super().update(search, scored)

    found, start = [], torch.zeros(1, 6, 2)
    config = planners.GradientConfig(6, 2, knots=3, interpolation=interpolation, initial_std=0.1)
    Traced(config).plan(bowl(0.5), warm_start=start, generator=seeded(0))
    basis = planners.Knots(6, 3, interpolation)
    for scored in found:
        knots = scored.fresh.clone().requires_grad_()
        (expected,) = torch.autograd.grad(bowl(0.5)(basis.expand(knots)).sum(), knots)
        torch.testing.assert_close(scored.slopes, expected, rtol=1e-4, atol=1e-5)


def test_every_environment_climbs_its_own_hill():
    goals = uniform(1, 3, 1, 1, 2) * 0.9
    plan = make(iterations=80).plan(bowl(goals), batch=3, generator=seeded(0))
    torch.testing.assert_close(plan.actions, goals[:, 0].expand(3, 3, 2), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "score",
    [
        lambda a: a.detach().sum(dim=(2, 3)),
        lambda a: torch.from_numpy(a.detach().numpy().sum(axis=(2, 3))),
        torch.no_grad()(lambda a: a.sum(dim=(2, 3))),
        torch.inference_mode()(lambda a: a.sum(dim=(2, 3))),
        # Its gradient leads to the model's weights only.
        lambda a: torch.ones(1, requires_grad=True) * a.detach().sum(dim=(2, 3)),
    ],
    ids=["detached", "numpy", "no_grad", "inference_mode", "only to the weights"],
)
def test_a_score_without_gradient_is_refused(score):
    with pytest.raises(PlannerError, match="climbs the score's gradient, and the score has none"):
        make().plan(score)


def test_the_models_weights_are_left_alone():
    weight = torch.ones(2, requires_grad=True)
    make().plan(lambda a: (a * weight).sum(dim=(2, 3)), generator=seeded(0))
    assert weight.grad is None


@pytest.mark.parametrize("bad", [NAN, INF, 1e30])
def test_gradients_that_are_no_numbers_do_no_harm(bad):
    """Where the first action element is positive, its own slope is bad; the rest still climbs."""

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            (x,) = ctx.saved_tensors
            first = torch.zeros_like(slope)
            first[..., 0, 0] = torch.where(x[..., 0, 0] > 0, bad, 0.0)
            return slope + first

    seen = []

    def score(actions):
        seen.append(actions.detach())
        return bowl(0.5)(Poison.apply(actions))

    plan = make(iterations=60).plan(score, generator=seeded(0))
    assert all((actions.abs() <= 1).all() for actions in seen)
    torch.testing.assert_close(plan.actions[0, 1:], torch.full((2, 2), 0.5), rtol=0, atol=0.05)
    assert plan.valid.all()


@pytest.mark.parametrize("bad", [0.0, -0.1, INF, NAN])
def test_a_learning_rate_must_make_sense(bad):
    with pytest.raises(PlannerError, match="learning_rate"):
        make(learning_rate=bad)
