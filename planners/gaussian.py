"""What the planners share that search with independent normals."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planners.noise import coloured
from planners.planner import Drawn, Planner


@dataclass(frozen=True)
class Gaussian:
    """A search distribution: a normal for every element of what is searched for."""

    mean: Float[Tensor, "B K A"]
    std: Float[Tensor, "B K A"]


class GaussianPlanner(Planner):
    """Where such planners begin, how they draw and how they refit."""

    def init(self, start: Float[Tensor, "B K A"], generator: torch.Generator | Drawn) -> Gaussian:
        """Normals around `start`, all with `initial_std`."""
        return Gaussian(start, torch.full_like(start, self.config.initial_std))

    def sample(self, search: Gaussian, iteration: int, generator: torch.Generator | Drawn) -> Float[Tensor, "B N K A"]:
        """Draws around the mean."""
        return self.draw(search, self.config.samples, generator)

    def draw(self, search: Gaussian, count: int, generator: torch.Generator | Drawn) -> Float[Tensor, "B N K A"]:
        """Normal deviates of the noise's colour, scaled and moved.

        All environments of the batch share the same deviates, so the answer for one of them does not depend on which
        others happen to share its batch; but for deviates that were drawn for each, see `Drawn`.
        """
        mean = search.mean
        if isinstance(generator, Drawn):
            white = generator.take()
        else:
            white = torch.randn(count, *mean.shape[1:], generator=generator, device=mean.device)
        return torch.addcmul(mean.unsqueeze(1), search.std.unsqueeze(1), coloured(white, self.config.noise_beta))

    def refit(self, elites: Float[Tensor, "B E K A"], weights: Float[Tensor, "B E"]) -> Gaussian:
        """Weighted mean and standard deviation of the elites; weights sum to one in each row."""
        w = weights[:, :, None, None]
        mean = (w * elites).sum(dim=1)
        std = (w * (elites - mean.unsqueeze(1)) ** 2).sum(dim=1).sqrt()
        return Gaussian(mean, std.clamp(self.config.min_std, self.config.initial_std))

    def deviates(self) -> tuple[int, ...] | None:
        """See `Planner.deviates`."""
        config, mine, ours = self.config, type(self), GaussianPlanner
        if (mine.init, mine.sample, mine.draw) != (ours.init, ours.sample, ours.draw):
            return None  # nobody knows what else it draws
        return config.iterations, config.samples, config.length, config.action_dim

    def spread(self, search: Gaussian) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K A"]]:
        """The normals' own."""
        return search.mean, search.std


def where_finite(values: Float[Tensor, "B E"], new: Gaussian, old: Gaussian) -> Gaussian:
    """The new distribution for rows whose best value is finite, the old one for those with nothing to learn from."""
    # Without looking whether there are any, for which a GPU would have to be waited for.
    mask = (values[:, 0] > -torch.inf)[:, None, None]
    return Gaussian(torch.where(mask, new.mean, old.mean), torch.where(mask, new.std, old.std))
