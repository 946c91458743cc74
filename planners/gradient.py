"""Gradient ascent through a differentiable score."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planners.errors import PlannerError
from planners.noise import coloured
from planners.planner import Planner, PlannerConfig, Scored
from planners.registry import register


@dataclass(frozen=True)
class GradientConfig(PlannerConfig):
    """Knobs of gradient ascent.

    Attributes:
        samples: restarts, drawn around the warm start with `initial_std`; beside them climb the warm start itself
            and every proposal.
        iterations: steps, each with one gradient.
        learning_rate: Adam's step size, in units of the action range's half.
    """

    samples: int = 8
    iterations: int = 16
    initial_std: float = 0.5
    execute: str = "best"
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < float("inf"):
            raise PlannerError(f"learning_rate is {self.learning_rate}; it must be a positive number")


@dataclass(frozen=True)
class Climb:
    """The climbers, and Adam's memory of their slopes."""

    points: Float[Tensor, "B M K A"]
    mean: Float[Tensor, "B M K A"] | None = None
    square: Float[Tensor, "B M K A"] | None = None
    steps: int = 0


@register("gradient")
class GradientPlanner(Planner):
    """Adam from several starts, projected onto the box after every step; the best point met on the way is the plan.

    Kingma and Ba, Adam (arXiv 1412.6980); planning by gradients through learned dynamics in Srinivas et al., Universal
    Planning Networks (arXiv 1804.00645), and beside sampling in Bharadhwaj et al., Model-Predictive Planning via
    Cross-Entropy and Gradient-Based Optimization (arXiv 2004.08763). The score must be differentiable: a learned
    model's is, the simulator's is not.
    """

    Config = GradientConfig
    config: GradientConfig
    differentiates = True
    own_size = True

    def init(self, start: Float[Tensor, "B K A"], generator: torch.Generator) -> Climb:
        """Restarts around the start, the same deviations for all environments of the batch."""
        white = torch.randn(self.config.samples, *start.shape[1:], generator=generator, device=start.device)
        return Climb(start.unsqueeze(1) + self.config.initial_std * coloured(white, self.config.noise_beta))

    def sample(self, search: Climb, iteration: int, generator: torch.Generator) -> Float[Tensor, "B N K A"]:
        """Where the climbers stand."""
        return search.points

    def update(self, search: Climb, scored: Scored) -> Climb:
        """A step of Adam for every climber."""
        slopes = scored.slopes
        assert slopes is not None
        steps = search.steps + 1
        mean = 0.1 * slopes if search.mean is None else search.mean.lerp(slopes, 0.1)
        square = 0.001 * slopes**2 if search.square is None else search.square.lerp(slopes**2, 0.001)
        move = (mean / (1 - 0.9**steps)) / ((square / (1 - 0.999**steps)).sqrt() + 1e-8)
        points = (scored.fresh + self.config.learning_rate * move).clamp(-1, 1)
        return Climb(points, mean, square, steps)
