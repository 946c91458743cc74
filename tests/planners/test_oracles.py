"""Other people's planners as judges: the same noise and the same scores must give the same actions."""

import cma
import numpy as np
import pytest
import torch
from pytorch_mppi import MPPI as ReferenceMPPI

import planners
from tests.planners.toy import seeded, uniform

HORIZON, ACTIONS, STATES = 6, 2, 3


def dynamics(state, action):
    """Something crooked."""
    turn = torch.cat([state[:, 1:], state[:, :1]], dim=1)
    return 0.9 * state + 0.3 * torch.sin(turn) + 0.4 * torch.cat([action, action[:, :1] * action[:, 1:]], dim=1)


def running_cost(state, action):
    return (state**2).sum(dim=1) + 0.1 * (action**2).sum(dim=1)


def rollout_cost(state, actions):
    """(N, H, A) -> (N,)."""
    state, total = state.expand(len(actions), -1), torch.zeros(len(actions))
    for t in range(HORIZON):
        state = dynamics(state, actions[:, t])
        total = total + running_cost(state, actions[:, t])
    return total


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("temperature", "std"), [(0.05, 0.3), (0.5, 0.6), (3.0, 1.0)])
def test_an_iteration_of_mppi_is_that_of_pytorch_mppi(temperature, std, seed):
    samples = 64
    state, start = torch.randn(STATES, generator=seeded(seed)), 0.5 * uniform(seed, 1, HORIZON, ACTIONS)
    # Our warm start is a candidate too: the reference gets it as a perturbation of nothing.
    noise = std * torch.randn(samples, HORIZON, ACTIONS, generator=seeded(seed))
    noise = torch.cat([torch.zeros(1, HORIZON, ACTIONS), noise])

    class Reference(ReferenceMPPI):
        def _sample_noise(self, shape):
            assert shape == (samples + 1, HORIZON)
            return noise

    reference = Reference(
        dynamics,
        running_cost,
        STATES,
        noise_sigma=std**2 * torch.eye(ACTIONS),
        num_samples=samples + 1,
        horizon=HORIZON,
        lambda_=temperature,
        u_min=-torch.ones(ACTIONS),
        u_max=torch.ones(ACTIONS),
        U_init=start[0].clone(),
    )
    reference.command(state, shift_nominal_trajectory=False)

    def score(actions):
        """The reference has a price on deviations from the start, which comes from its theory."""
        price = (temperature / std**2 * start * (actions[0] - start)).sum(dim=(1, 2))
        return -(rollout_cost(state, actions[0]) + price).unsqueeze(0)

    class Traced(planners.MPPI):
        def update(self, search, scored):
            means.append(super().update(search, scored).mean)
            return search

    means = []
    config = planners.MPPIConfig(
        HORIZON, ACTIONS, samples, 1, samples + 1, initial_std=std, min_std=std, temperature=temperature
    )
    Traced(config).plan(score, warm_start=start, generator=seeded(seed))
    torch.testing.assert_close(means[0][0], reference.U, rtol=1e-4, atol=1e-5)
    assert (means[0] - start).abs().max() > 0.02  # it has moved


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_cmaes_is_cma(iterations, seed):
    samples, std = 14, 0.4
    state, start = torch.randn(STATES, generator=seeded(seed)), 0.5 * uniform(seed, 1, HORIZON, ACTIONS)

    def score(actions):
        return -rollout_cost(state, actions[0]).unsqueeze(0)

    class Traced(planners.CMAES):
        def spread(self, search):
            means.append(super().spread(search)[0])
            return super().spread(search)

    means = []
    config = planners.CMAESConfig(HORIZON, ACTIONS, samples, iterations, initial_std=std)
    Traced(config).plan(score, warm_start=start, generator=seeded(seed))

    normal = np.random.default_rng(int(torch.randint(2**31, (), generator=seeded(seed)))).standard_normal
    options = {"popsize": samples, "verbose": -9, "seed": np.nan, "randn": lambda *size: normal(size)}
    options |= {"minstd": config.min_std, "maxstd": std}
    strategy = cma.CMAEvolutionStrategy(start.flatten().double().numpy(), std, options)
    best = start.flatten().double().numpy(), -float(score(start.unsqueeze(1)))
    for _ in range(iterations):
        asked = strategy.ask()
        inside = torch.from_numpy(np.clip(asked, -1, 1)).float()
        costs = -score(inside.reshape(1, samples, HORIZON, ACTIONS))[0]
        strategy.tell(asked, costs.tolist())
        if costs.min() <= best[1]:
            best = inside[costs.argmin()].double().numpy(), float(costs.min())
        else:
            strategy.inject([best[0]])
    favourite = torch.from_numpy(strategy.result.xfavorite).float().reshape(HORIZON, ACTIONS)
    torch.testing.assert_close(means[-1][0], favourite, rtol=1e-4, atol=1e-5)
    assert (favourite - start[0]).abs().max() > 0.05
