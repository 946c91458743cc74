"""Coloured noise: its spectrum, its spread, its tails, and that the planners draw it."""

import pytest
import torch

import planners
from planners import PlannerError, coloured
from tests.planners.toy import seeded

BETAS = [0.0, 0.5, 2.0, 3.5]


def white(count: int, horizon: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, horizon, 1, generator=seeded(seed))


@pytest.mark.parametrize("horizon", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("beta", BETAS)
def test_every_element_is_standard_normal(horizon, beta):
    """Sequences are not scaled by the spread that they happen to have, which would make short ones heavy-tailed."""
    x = coloured(white(40_000, horizon), beta)[..., 0]
    assert x.shape == (40_000, horizon)
    assert x.mean(0).abs().max() < 0.03
    assert (x.var(0) - 1).abs().max() < 0.05
    assert ((x**4).mean(0) / x.var(0) ** 2 - 3).abs().max() < 0.25  # the kurtosis of a normal
    assert (((x.abs() > 3).double().mean(0) - 0.0027).abs() < 0.0012).all()


@pytest.mark.parametrize("horizon", [32, 33])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 3.5])
def test_the_spectrum_falls_as_the_power_of_the_frequency(horizon, beta):
    x = coloured(white(20_000, horizon), beta)[..., 0]
    power = (torch.fft.rfft(x, dim=-1).abs() ** 2).mean(0)
    frequency = torch.fft.rfftfreq(horizon)
    logs = torch.stack([frequency[1:].log(), torch.ones(horizon // 2)], dim=1)
    slope = torch.linalg.lstsq(logs, power[1:].log().unsqueeze(1)).solution[0, 0]
    torch.testing.assert_close(slope.item(), -beta, rtol=0, atol=0.02)
    # The mean goes like the slowest wave.
    torch.testing.assert_close(power[0], power[1], rtol=0.05, atol=0)


@pytest.mark.parametrize("horizon", [1, 2, 7])
def test_without_colour_the_noise_is_what_it_was(horizon):
    noise = white(5, horizon)
    assert torch.equal(coloured(noise, 0.0), noise)
    assert torch.equal(coloured(noise[:, :1], 2.0), noise[:, :1])


def test_elements_of_an_action_stay_independent():
    noise = torch.randn(20_000, 6, 2, generator=seeded(0))
    x = coloured(noise, 2.0)
    assert (x[..., 0] * x[..., 1]).mean(0).abs().max() < 0.03
    # and each has the colour of its own white noise
    torch.testing.assert_close(x[..., 1:], coloured(noise[..., 1:], 2.0))


@pytest.mark.parametrize("name", ["cmaes", "shooting"])
def test_a_planner_that_draws_none_refuses_it(name):
    with pytest.raises(PlannerError, match="noise_beta is 2"):
        planners.make(name, horizon=3, action_dim=1, noise_beta=2.0)


@pytest.mark.parametrize("name", ["cem", "gradient", "icem", "mppi", "predictive"])
@pytest.mark.parametrize("knots", [None, 8])
def test_the_planners_draw_it(name, knots):
    """Neighbours resemble each other, along the knots where there are any."""
    together = {}
    for beta in (0.0, 3.0):
        planner = planners.make(
            name, horizon=10, action_dim=2, samples=4000, initial_std=0.2, noise_beta=beta, knots=knots
        )
        generator = seeded(0)
        search = planner.init(torch.zeros(1, knots or 10, 2), generator)
        x = planner.sample(search, 0, generator)[0]
        assert (x.std(0) / 0.2 - 1).abs().max() < 0.06
        together[beta] = float((x[:, 1:] * x[:, :-1]).mean() / 0.2**2)
    assert abs(together[0.0]) < 0.03
    assert together[3.0] > 0.6
