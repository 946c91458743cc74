"""Random shooting."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planners.planner import Planner, PlannerConfig, Scored
from planners.registry import register


@dataclass(frozen=True)
class ShootingConfig(PlannerConfig):
    """Knobs of random shooting: there is no distribution, so that the best candidate is what is executed."""

    execute: str = "best"


@register("shooting")
class Shooting(Planner):
    """Uniformly random candidates, nothing learned from them: what a search has to be better than.

    As a planner over learned dynamics in Nagabandi et al., Neural Network Dynamics for Model-Based Deep Reinforcement
    Learning (arXiv 1708.02596). Standard deviations play no part.
    """

    Config = ShootingConfig
    colours_noise = False

    def init(self, start: Float[Tensor, "B K A"], generator: torch.Generator) -> Float[Tensor, "B K A"]:
        """The start is kept for its shape alone."""
        return start

    def sample(self, search: Tensor, iteration: int, generator: torch.Generator) -> Float[Tensor, "B N K A"]:
        """Uniform in the box, the same for all environments of the batch."""
        uniform = torch.rand(self.config.samples, *search.shape[1:], generator=generator, device=search.device)
        return (2 * uniform - 1).expand(len(search), -1, -1, -1)

    def update(self, search: Tensor, scored: Scored) -> Tensor:
        """Nothing is learned."""
        return search
