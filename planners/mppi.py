"""MPPI, model-predictive path integral control."""

from dataclasses import dataclass

import torch

from planners.errors import PlannerError
from planners.gaussian import Gaussian, GaussianPlanner, where_finite
from planners.planner import PlannerConfig, Scored
from planners.registry import register


@dataclass(frozen=True)
class MPPIConfig(PlannerConfig):
    """Knobs of MPPI.

    Attributes:
        temperature: difference in predicted return that makes one elite weigh e times another. Towards zero only
            the best counts; towards infinity all elites count the same, which is CEM.
    """

    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < float("inf"):
            raise PlannerError(f"temperature is {self.temperature}; it must be a positive number")


@register("mppi")
class MPPI(GaussianPlanner):
    """Refits normals to the elites, each weighing by the exponential of its predicted return.

    Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning (ICRA 2017), in the form with
    elites and an adapted standard deviation of Hansen et al., Temporal Difference Learning for Model Predictive
    Control (arXiv 2203.04955). With `elites` of `samples`, a `min_std` of `initial_std`, and a score that puts a price
    on deviating from the mean, it is the former.
    """

    Config = MPPIConfig
    config: MPPIConfig

    def update(self, search: Gaussian, scored: Scored) -> Gaussian:
        """Mean and standard deviation of the elites under softmax(value / temperature)."""
        best = scored.values[:, :1]
        gap = torch.where(best > -torch.inf, scored.values - best, 0.0)
        weights = torch.softmax(gap / self.config.temperature, dim=1).to(scored.elites.dtype)
        return where_finite(scored.values, self.refit(scored.elites, weights), search)
