"""Scores to plan for, and two planners as somebody else might write them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import planners
from planners import PlannerConfig, Scored


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(seed: int, *shape: int) -> Tensor:
    """Actions anywhere in the box."""
    return torch.rand(*shape, generator=seeded(seed)) * 2 - 1


def rough_score(seed: int):
    """A score with many hills: sums of random waves."""
    phase = torch.rand(5, generator=seeded(seed)) * 6

    def score(actions: Tensor) -> Tensor:
        x = actions.sum(dim=(2, 3)).unsqueeze(-1) + (actions**2).sum(dim=(2, 3)).unsqueeze(-1)
        return torch.sin(3 * x * torch.arange(1.0, 6) + phase).sum(-1)

    return score


def bowl(goal: Any):
    """A score with one hill, at `goal`."""
    return lambda actions: -((actions - goal) ** 2).sum(dim=(2, 3))


@dataclass(frozen=True)
class ShrinkingConfig(PlannerConfig):
    """Knobs of `Shrinking`."""

    factor: float = 0.7


class Shrinking(planners.Planner):
    """Uniform candidates around the best one so far, in a cube that shrinks. It has no distribution to speak of."""

    Config = ShrinkingConfig

    def init(self, start, generator):
        return start, 1.0

    def sample(self, search, iteration, generator):
        centre, reach = search
        shape = (self.config.samples, *centre.shape[1:])
        return centre.unsqueeze(1) + reach * (2 * torch.rand(shape, generator=generator) - 1)

    def update(self, search, scored: Scored):
        _, reach = search
        return scored.elites[:, 0], reach * self.config.factor


class Doubtful(planners.CEM):
    """CEM that never trusts its elites wholly."""

    def update(self, search, scored: Scored):
        fit = super().update(search, scored)
        return planners.Gaussian(fit.mean, (1.2 * fit.std).clamp(max=self.config.initial_std))
