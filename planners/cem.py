"""CEM, the cross-entropy method."""

from dataclasses import dataclass

from planners.errors import PlannerError
from planners.gaussian import Gaussian, GaussianPlanner, where_finite
from planners.planner import PlannerConfig, Scored
from planners.registry import register


@dataclass(frozen=True)
class CEMConfig(PlannerConfig):
    """Knobs of CEM.

    Attributes:
        momentum: share of the old mean and standard deviation that survives a refit, in [0, 1).
    """

    momentum: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise PlannerError(f"momentum is {self.momentum}; it must lie in [0, 1)")


@register("cem")
class CEM(GaussianPlanner):
    """Refits normals to the elites, all of them weighing the same.

    Rubinstein and Kroese, The Cross-Entropy Method (Springer, 2004); as a planner over learned dynamics in
    Chua et al., Deep Reinforcement Learning in a Handful of Trials (arXiv 1805.12114).
    """

    Config = CEMConfig
    config: CEMConfig

    def update(self, search: Gaussian, scored: Scored) -> Gaussian:
        """Mean and standard deviation of the elites, smoothed by the momentum."""
        usable = (scored.values > float("-inf")).to(scored.elites.dtype)
        fit = self.refit(scored.elites, usable / usable.sum(dim=1, keepdim=True).clamp(min=1))
        m = self.config.momentum
        smoothed = Gaussian(fit.mean.lerp(search.mean, m), fit.std.lerp(search.std, m))
        return where_finite(scored.values, smoothed, search)
