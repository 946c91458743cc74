"""Knots: what lies between them, and the way back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from planners import Knots
from planners.knots import INTERPOLATIONS
from tests.planners.toy import seeded, uniform

counts = st.integers(1, 9).flatmap(lambda horizon: st.tuples(st.just(horizon), st.integers(1, horizon)))
schemes = st.sampled_from(INTERPOLATIONS)


def raw(horizon: int, count: int, scheme: str) -> torch.Tensor:
    """(H, K): what each decision takes from each knot, found by asking for knots small enough not to be clipped."""
    return Knots(horizon, count, scheme).expand(0.01 * torch.eye(count)) * 100


@given(size=counts, scheme=schemes)
def test_equal_knots_give_equal_actions(size, scheme):
    """A partition of unity."""
    torch.testing.assert_close(raw(*size, scheme).sum(1), torch.ones(size[0]), rtol=0, atol=1e-4)
    assert (Knots(*size, scheme).expand(torch.full((size[1], 2), -1.0)) <= -1 + 1e-5).all()


@pytest.mark.parametrize(("horizon", "count"), [(9, 3), (9, 5), (7, 3), (5, 2), (6, 6)])
@pytest.mark.parametrize("scheme", ["linear", "cubic"])
def test_knots_lie_on_their_places(horizon, count, scheme):
    knots = uniform(0, 2, count, 3)
    actions = Knots(horizon, count, scheme).expand(knots)
    torch.testing.assert_close(actions[:, :: max((horizon - 1) // (count - 1), 1)], knots, rtol=0, atol=1e-5)


def test_zero_order_holds_and_linear_joins():
    knots = torch.tensor([[0.2], [-0.6], [1.0]])
    held = Knots(6, 3, "zero").expand(knots)
    torch.testing.assert_close(held[:, 0], torch.tensor([0.2, 0.2, -0.6, -0.6, 1.0, 1.0]))
    uneven = Knots(5, 3, "zero").expand(knots)
    torch.testing.assert_close(uneven[:, 0], torch.tensor([0.2, 0.2, -0.6, -0.6, 1.0]))
    joined = Knots(5, 3, "linear").expand(knots)
    torch.testing.assert_close(joined[:, 0], torch.tensor([0.2, -0.2, -0.6, 0.2, 1.0]))


def test_the_cubic_is_smooth_and_runs_straight_at_its_ends():
    """A straight line stays one, and second differences, which a natural spline has none of at its ends, stay small."""
    line = torch.linspace(-0.8, 0.8, 4).unsqueeze(1)
    torch.testing.assert_close(Knots(10, 4, "cubic").expand(line)[:, 0], torch.linspace(-0.8, 0.8, 10))
    knots = torch.tensor([0.5, -0.5, 0.5, -0.5]).unsqueeze(1)
    bends = Knots(91, 4, "cubic").expand(knots)[:, 0].diff(n=2).abs()
    corners = Knots(91, 4, "linear").expand(knots)[:, 0].diff(n=2).abs()
    assert bends.max() < corners.max() / 4
    assert bends[0] < bends.max() / 10


@given(size=counts, scheme=schemes)
def test_the_way_back_finds_the_knots(size, scheme):
    knots = uniform(3, 4, size[1], 2) * 0.5  # where a spline overshoots it is still inside the box
    basis = Knots(*size, scheme)
    torch.testing.assert_close(basis.project(basis.expand(knots)), knots, rtol=0, atol=1e-3)


@given(size=counts, scheme=schemes)
def test_the_way_back_comes_as_near_as_can_be(size, scheme):
    """Least squares, for actions that no knots give."""
    actions, basis = 0.1 * uniform(4, size[0], 2), Knots(*size, scheme)
    knots = basis.project(actions)
    error = (basis.expand(knots) - actions).square().sum()
    for seed in range(5):
        other = knots + 0.01 * uniform(seed, size[1], 2)
        assert error <= (basis.expand(other) - actions).square().sum() + 1e-6
    assert basis.project(torch.full((size[0], 2), 5.0)).abs().max() <= 1


@pytest.mark.parametrize("horizon", [1, 2, 5, 8])
@pytest.mark.parametrize("scheme", INTERPOLATIONS)
def test_as_many_knots_as_decisions_change_nothing(horizon, scheme):
    torch.testing.assert_close(raw(horizon, horizon, scheme), torch.eye(horizon), rtol=0, atol=1e-4)


def test_an_overshoot_is_clipped():
    knots = torch.tensor([-1.0, 1.0, 1.0, -1.0]).unsqueeze(1)
    assert (raw(10, 4, "cubic") @ knots).max() > 1.05
    assert Knots(10, 4, "cubic").expand(knots).max() == 1


@given(size=counts, scheme=schemes)
def test_slopes_are_pulled_back_as_by_autograd(size, scheme):
    basis, slopes = Knots(*size, scheme), uniform(5, 3, size[0], 2)
    knots = (0.1 * uniform(6, 3, size[1], 2)).requires_grad_()
    (expected,) = torch.autograd.grad((basis.expand(knots) * slopes).sum(), knots)
    torch.testing.assert_close(basis.pull_back(slopes), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", INTERPOLATIONS)
def test_standard_deviations_are_those_of_drawn_knots(scheme):
    basis, std = Knots(7, 3, scheme), torch.tensor([[0.1], [0.02], [0.05]])
    drawn = std * torch.randn(40_000, 3, 1, generator=seeded(0))
    torch.testing.assert_close(basis.expand_std(std), basis.expand(drawn).std(0), rtol=0.03, atol=0)
