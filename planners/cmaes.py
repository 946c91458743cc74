"""CMA-ES, by the `cma` package."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planners.planner import Planner, PlannerConfig, Scored
from planners.registry import register

# What stands in for a score that must be ignored: cma ranks candidates, so that only the order counts.
_WORST = 1e300


@dataclass(frozen=True)
class CMAESConfig(PlannerConfig):
    """Knobs of CMA-ES. Everything else follows from them as `cma` sees fit."""

    initial_std: float = 0.5
    min_std: float = 1e-6


@dataclass
class Evolution:
    """One strategy for each environment, which changes as it is told of scores.

    Attributes:
        strategies: of `cma`, B of them.
        asked: of each, the candidates it has just drawn.
        shape: (K, A).
    """

    strategies: list[Any]
    shape: tuple[int, ...]
    asked: list[list[np.ndarray]] = field(default_factory=list)


@register("cmaes")
class CMAES(Planner):
    """A normal with a full covariance, adapted from ranks; slow for many environments or long horizons.

    Hansen, The CMA Evolution Strategy: A Tutorial (arXiv 1604.00772). `elites` and the noise's colour play no part.
    """

    Config = CMAESConfig

    def init(self, start: Float[Tensor, "B K A"], generator: torch.Generator) -> Evolution:
        """A strategy for each environment, all with the same deviates."""
        import cma  # takes a while to import, and only those who use it need wait

        seed = int(torch.randint(2**31, (), generator=generator, device=start.device))
        strategies = []
        for row in start.flatten(1).double().cpu().numpy():
            normal = np.random.default_rng(seed).standard_normal
            options = {
                "popsize": max(self.config.samples, 2),
                "bounds": [-1, 1],
                "verbose": -10,
                "seed": np.nan,  # NumPy's global generator is left alone
                "randn": lambda *size, normal=normal: normal(size),
            }
            strategies.append(cma.CMAEvolutionStrategy(row, self.config.initial_std, options))
        return Evolution(strategies, tuple(start.shape[1:]))

    def sample(self, search: Evolution, iteration: int, generator: torch.Generator) -> Float[Tensor, "B N K A"]:
        """What the strategies ask for."""
        search.asked = [strategy.ask() for strategy in search.strategies]
        device = generator.device
        drawn = torch.from_numpy(np.asarray(search.asked, np.float32)).to(device)
        return drawn.unflatten(-1, search.shape)

    def update(self, search: Evolution, scored: Scored) -> Evolution:
        """Tells the strategies of the scores, and of the best candidate where it was none of theirs."""
        count = len(search.asked[0])
        values = scored.fresh_values[:, -count:].double().cpu().numpy()
        best = scored.elites[:, 0].flatten(1).double().cpu().numpy()
        for i, strategy in enumerate(search.strategies):
            if np.isfinite(values[i]).any():
                strategy.tell(search.asked[i], np.where(np.isfinite(values[i]), -values[i], _WORST))
                if scored.values[i, 0] > scored.fresh_values[i, -count:].max():
                    strategy.inject([best[i]])
        return search

    def spread(self, search: Evolution) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K A"]]:
        """The strategies' favourites and standard deviations."""
        means = [strategy.result.xfavorite for strategy in search.strategies]
        stds = [strategy.result.stds for strategy in search.strategies]
        mean, std = (torch.from_numpy(np.asarray(x, np.float32)).unflatten(-1, search.shape) for x in (means, stds))
        return mean, std.clamp(max=self.config.initial_std)
