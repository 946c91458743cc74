"""iCEM, the improved cross-entropy method."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planners.cem import CEM, CEMConfig
from planners.errors import PlannerError
from planners.gaussian import Gaussian
from planners.planner import Drawn
from planners.registry import register


@dataclass(frozen=True)
class ICEMConfig(CEMConfig):
    """Knobs of iCEM, with the paper's defaults.

    Attributes:
        decay: the population shrinks by this factor from one iteration to the next, but never below two elites' worth.
    """

    samples: int = 40
    elites: int = 10
    keep: int = 3
    remember: int = 3
    initial_std: float = 0.5
    min_std: float = 0.01
    noise_beta: float = 2.0
    execute: str = "best"
    decay: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.decay < float("inf"):
            raise PlannerError(f"decay is {self.decay}; it must be 1 or more")


@register("icem")
class ICEM(CEM):
    """CEM with coloured noise, a memory and a shrinking population.

    Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning (arXiv 2008.06389): noise correlated
    in time, elites kept from one iteration to the next and, shifted, from one decision to the next, fewer candidates
    in every iteration, and the mean itself among the last ones.
    """

    Config = ICEMConfig
    config: ICEMConfig

    def sample(self, search: Gaussian, iteration: int, generator: torch.Generator | Drawn) -> Float[Tensor, "B N K A"]:
        """Draws around the mean; in the last iteration, one of them is the mean."""
        config = self.config
        count = max(int(config.samples * config.decay**-iteration), min(2 * config.elites, config.samples))
        candidates = self.draw(search, count, generator)
        if iteration > 0 and iteration == config.iterations - 1:
            candidates[:, -1] = search.mean
        return candidates
