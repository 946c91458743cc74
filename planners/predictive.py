"""Predictive sampling."""

from dataclasses import dataclass

import torch

from planners.gaussian import Gaussian, GaussianPlanner
from planners.planner import PlannerConfig, Scored
from planners.registry import register


@dataclass(frozen=True)
class PredictiveConfig(PlannerConfig):
    """Knobs of predictive sampling.

    The paper draws ten candidates with a standard deviation of a tenth to a half of the action range, task by task.
    """

    samples: int = 10
    iterations: int = 1
    initial_std: float = 0.3
    execute: str = "best"


@register("predictive")
class PredictiveSampling(GaussianPlanner):
    """The best of a few candidates around the best one so far, with noise that stays as it is.

    Howell et al., Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo (arXiv 2212.00541), where knots
    parametrise the actions: set `knots` for it.
    """

    Config = PredictiveConfig

    def update(self, search: Gaussian, scored: Scored) -> Gaussian:
        """Moves to the best candidate."""
        valid = (scored.values[:, 0] > -torch.inf)[:, None, None]
        return Gaussian(torch.where(valid, scored.elites[:, 0], search.mean), search.std)
