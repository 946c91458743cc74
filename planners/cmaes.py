"""CMA-ES, by the `cma` package."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planners.errors import PlannerError
from planners.planner import Planner, PlannerConfig, Scored
from planners.registry import register


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
        shape: (K, A).
        device: where candidates are scored.
        asked: of each strategy, the candidates it has just drawn.
    """

    strategies: list[Any]
    shape: tuple[int, ...]
    device: torch.device
    asked: list[list[np.ndarray]] = field(default_factory=list)


@register("cmaes")
class CMAES(Planner):
    """A normal with a full covariance, adapted from ranks; slow for many environments or long horizons.

    Hansen, The CMA Evolution Strategy: A Tutorial (arXiv 1604.00772). `elites` play no part.
    """

    Config = CMAESConfig
    colours_noise = False

    def __init__(self, config: PlannerConfig) -> None:
        super().__init__(config)
        _strategy()  # where it is missing, that is said before anything is planned

    def init(self, start: Float[Tensor, "B K A"], generator: torch.Generator) -> Evolution:
        """A strategy for each environment, all with the same deviates."""
        seed = int(torch.randint(2**31, (), generator=generator, device=start.device))
        # The loop clips candidates to the box. cma's own bounds bend the space near them, where a population that is
        # large for its few iterations gets lost. In one dimension it can't bound standard deviations.
        limits = {"minstd": self.config.min_std, "maxstd": self.config.initial_std} if start[0].numel() > 1 else {}
        strategy, strategies = _strategy(), []
        for row in start.flatten(1).double().cpu().numpy():
            normal = np.random.default_rng(seed).standard_normal
            options = {
                "popsize": max(self.config.samples, 2),
                "verbose": -10,
                "seed": np.nan,  # NumPy's global generator is left alone
                "randn": lambda *size, normal=normal: normal(size),
            } | limits
            strategies.append(strategy(row, self.config.initial_std, options))
        return Evolution(strategies, tuple(start.shape[1:]), start.device)

    def sample(self, search: Evolution, iteration: int, generator: torch.Generator) -> Float[Tensor, "B N K A"]:
        """What the strategies ask for."""
        search.asked = [strategy.ask() for strategy in search.strategies]
        return self._actions(search, search.asked)

    def update(self, search: Evolution, scored: Scored) -> Evolution:
        """Tells the strategies how their candidates rank, and of the best candidate where it was none of theirs."""
        count = len(search.asked[0])
        values = scored.fresh_values[:, -count:].double().cpu().numpy()
        best = scored.elites[:, 0].flatten(1).double().cpu().numpy()
        for i, strategy in enumerate(search.strategies):
            if np.isfinite(values[i]).any():
                strategy.tell(search.asked[i], _ranks(values[i], np.asarray(search.asked[i])))
                if scored.values[i, 0] > scored.fresh_values[i, -count:].max():
                    strategy.inject([best[i]])
        return search

    def spread(self, search: Evolution) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K A"]]:
        """The strategies' favourites and standard deviations."""
        means = [strategy.result.xfavorite for strategy in search.strategies]
        stds = [strategy.result.stds for strategy in search.strategies]
        return self._actions(search, means), self._actions(search, stds).clamp(max=self.config.initial_std)

    def _actions(self, search: Evolution, rows: list[Any]) -> Float[Tensor, "*S K A"]:
        return torch.from_numpy(np.asarray(rows, np.float32)).to(search.device).unflatten(-1, search.shape)


def _ranks(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What cma minimises, and of which it sees the order alone: 0 for the best candidate.

    Of candidates that the loop has clipped to the same actions the one that lay nearer to the box ranks first.
    """
    outside = (asked - asked.clip(-1, 1)) ** 2
    ranks = np.empty(len(values))
    ranks[np.lexsort((outside.sum(axis=1), -values))] = np.arange(len(values))
    return ranks


def _strategy() -> Any:
    """The strategy of `cma`, which takes a while to import: only those who use it wait.

    Raises:
        PlannerError: when it isn't installed.
    """
    try:
        from cma import CMAEvolutionStrategy
    except ImportError:
        raise PlannerError("planner 'cmaes' needs cma; choose another planner, or pip install cma") from None
    return CMAEvolutionStrategy
