"""The loop that all planners share: sample, score, refit.

An algorithm is its `init`, `sample` and `update`; everything else that a planner promises is kept here, once:
actions in the box, proposals and the warm start taken into account, bad scores never winning, deadlines,
no hidden state.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from planners.errors import PlannerError
from planners.plan import Plan, Score


@dataclass(frozen=True)
class Gaussian:
    """A search distribution: independent normals for every element of the action sequence."""

    mean: Float[Tensor, "B H A"]
    std: Float[Tensor, "B H A"]


@dataclass(frozen=True)
class PlannerConfig:
    """Knobs that every planner has.

    Attributes:
        horizon: decisions looked ahead, at least 1.
        action_dim: elements of one action.
        samples: candidates drawn in each iteration.
        iterations: rounds of sample, score, refit.
        elites: how many of the best candidates the distribution is refitted to.
        keep: elites that go on, with their scores, to compete in the next iteration; at least the best one.
        initial_std: standard deviation that the search begins with, around its warm start.
        min_std: floor of the standard deviation, so that the search never stops looking.
        execute: what is returned: the distribution's `mean`, or the `best` candidate seen. The best overfits a
            learned model's errors, the mean averages them out; the best is exact where the model is.
    """

    horizon: int
    action_dim: int
    samples: int = 256
    iterations: int = 3
    elites: int = 32
    keep: int = 8
    initial_std: float = 1.0
    min_std: float = 0.05
    execute: str = "mean"

    def __post_init__(self) -> None:
        for name in ("horizon", "action_dim", "samples", "iterations", "elites", "keep"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise PlannerError(f"{name} is {value!r}; it must be a whole number of 1 or more")
        if not 0 < self.min_std <= self.initial_std < float("inf"):
            raise PlannerError(
                f"min_std is {self.min_std} and initial_std {self.initial_std}; they must be 0 < min_std <= initial_std"
            )
        if self.execute not in ("mean", "best"):
            raise PlannerError(f"execute is {self.execute!r}; it must be 'mean' or 'best'")


class Planner(ABC):
    """A search over action sequences. Subclasses say how candidates are drawn and learned from.

    A planner keeps nothing between calls and uses no global randomness: the same inputs and generator state
    give the same plan.
    """

    Config: ClassVar[type[PlannerConfig]] = PlannerConfig

    def __init__(self, config: PlannerConfig) -> None:
        self.config = config

    @abstractmethod
    def init(self, start: Float[Tensor, "B H A"]) -> Any:
        """The search distribution around the warm start (zeros where there is none)."""

    @abstractmethod
    def sample(self, search: Any, generator: torch.Generator | None) -> Float[Tensor, "B N H A"]:
        """`config.samples` candidates; the loop clips them to [-1, 1]."""

    @abstractmethod
    def update(self, search: Any, elites: Float[Tensor, "B K H A"], values: Float[Tensor, "B K"]) -> Any:
        """The distribution refitted to the elites, best first.

        A value of -inf marks one that must be ignored; at least one is finite in each row that the loop goes on to use.
        """

    @torch.no_grad()
    def plan(
        self,
        score: Score,
        batch: int = 1,
        warm_start: Plan | Float[Tensor, "B H A"] | None = None,
        proposals: Float[Tensor, "B P H A"] | None = None,
        deadline: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Plan:
        """Searches for the action sequence with the highest score.

        Args:
            score: called with candidates (B, N, H, A) in [-1, 1]; returns (B, N), higher is better. NaN and
                infinities count as the worst score.
            batch: environments planned for at once, B.
            warm_start: (B, H, A), or a `Plan`, usually the previous one shifted. The search begins around it.
            proposals: (B, P, H, A) more candidates, from a policy prior or from memory.
            deadline: a `time.monotonic()` instant. No iteration is begun that would probably end after it, save
                the first. Where it has passed, the best candidate so far is returned, whatever `execute` says.
            generator: source of randomness, on `device`. None draws the same deviates at every call.
            device: where candidates are drawn.

        Returns:
            A `Plan` that scores no worse than the warm start and than the best proposal.

        Raises:
            PlannerError: when a shape does not fit.
        """
        config = self.config
        generator = generator or torch.Generator(device).manual_seed(0)
        shape = (batch, config.horizon, config.action_dim)
        if isinstance(warm_start, Plan):
            warm_start = warm_start.actions
        start = self._start(warm_start, shape, device)
        # The start competes too, even when it is only zeros: the answer is then never worse than doing nothing.
        pool = start.unsqueeze(1)
        if proposals is not None:
            pool = torch.cat([pool, self._proposals(proposals, shape, device)], dim=1)
        first = pool.shape[1]

        search = self.init(start)
        kept, kept_values = pool[:, :0], None
        floor = best = best_value = valid = None
        evaluations = iterations = 0
        for _ in range(config.iterations):
            began = time.monotonic()
            fresh = self.sample(search, generator).clamp(-1, 1)
            if iterations == 0:
                fresh = torch.cat([pool, fresh], dim=1)
            values = _finite(score(fresh), fresh.shape[:2])
            evaluations += fresh.shape[1]
            if iterations == 0:
                floor = values[:, :first].amax(dim=1)
            candidates = torch.cat([kept, fresh], dim=1)
            if kept_values is not None:
                values = torch.cat([kept_values, values], dim=1)
            top, index = values.topk(min(config.elites, values.shape[1]), dim=1)
            elites = candidates.gather(1, index[:, :, None, None].expand(-1, -1, *shape[1:]))
            best, best_value = elites[:, 0], top[:, 0]
            valid = best_value > -torch.inf
            if config.iterations > 1 or config.execute == "mean":
                search = _choose(valid, self.update(search, elites, top), search)
            kept, kept_values = elites[:, : config.keep], top[:, : config.keep]
            iterations += 1
            now = time.monotonic()
            if deadline is not None and now + (now - began) > deadline:
                break

        assert best is not None
        assert best_value is not None
        assert floor is not None
        assert valid is not None
        std = search.std if isinstance(search, Gaussian) else torch.zeros_like(start)
        actions, value = best, best_value
        late = deadline is not None and time.monotonic() > deadline
        if config.execute == "mean" and isinstance(search, Gaussian) and not late:
            mean = search.mean.clamp(-1, 1)
            mean_value = _finite(score(mean.unsqueeze(1)), (batch, 1)).squeeze(1)
            evaluations += 1
            good = (mean_value >= floor) & (mean_value > -torch.inf)
            actions = torch.where(good[:, None, None], mean, best)
            value = torch.where(good, mean_value, best_value)
            valid = valid | good
        actions = torch.where(valid[:, None, None], actions, start)
        return Plan(actions, value, std, evaluations, iterations, valid)

    def _start(self, warm_start: Tensor | None, shape: tuple[int, int, int], device: Any) -> Tensor:
        if warm_start is None:
            return torch.zeros(shape, device=device)
        if tuple(warm_start.shape) != shape:
            raise PlannerError(f"the warm start has shape {tuple(warm_start.shape)}; expected (B, H, A) = {shape}")
        return _boxed(warm_start, device)

    def _proposals(self, proposals: Tensor, shape: tuple[int, int, int], device: Any) -> Tensor:
        if proposals.ndim != 4 or (proposals.shape[0], *proposals.shape[2:]) != shape:
            b, h, a = shape
            raise PlannerError(
                f"the proposals have shape {tuple(proposals.shape)}; expected (B, P, H, A) = ({b}, any, {h}, {a})"
            )
        return _boxed(proposals, device)


class GaussianPlanner(Planner):
    """The part that planners with independent normals share: where they begin and how they draw."""

    def init(self, start: Float[Tensor, "B H A"]) -> Gaussian:
        """Normals around `start`, all with `initial_std`."""
        return Gaussian(start, torch.full_like(start, self.config.initial_std))

    def sample(self, search: Gaussian, generator: torch.Generator | None) -> Float[Tensor, "B N H A"]:
        """Draws around the mean.

        All environments of the batch share the same normal deviates, so the answer for one of them does not depend
        on which others happen to share its batch.
        """
        n, (_, h, a) = self.config.samples, search.mean.shape
        noise = torch.randn(n, h, a, generator=generator, device=search.mean.device)
        return search.mean.unsqueeze(1) + search.std.unsqueeze(1) * noise

    def refit(self, elites: Float[Tensor, "B K H A"], weights: Float[Tensor, "B K"]) -> Gaussian:
        """Weighted mean and standard deviation of the elites; weights sum to one in each row."""
        w = weights[:, :, None, None]
        mean = (w * elites).sum(dim=1)
        std = (w * (elites - mean.unsqueeze(1)) ** 2).sum(dim=1).sqrt()
        return Gaussian(mean, std.clamp(self.config.min_std, self.config.initial_std))


def _boxed(actions: Tensor, device: torch.device | str) -> Tensor:
    """A user's actions as the search takes them: float32, finite and within [-1, 1]."""
    return torch.nan_to_num(actions.to(device, torch.float32)).clamp(-1, 1)


def _finite(values: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Scores with NaN and both infinities turned into -inf, the worst."""
    if tuple(values.shape) != tuple(shape):
        raise PlannerError(f"the score returned shape {tuple(values.shape)}; expected (B, N) = {tuple(shape)}")
    return torch.where(torch.isfinite(values), values, -torch.inf)


def _choose(valid: Bool[Tensor, "B"], new: Any, old: Any) -> Any:
    """The new distribution for rows with something to learn from, the old one for the others."""
    if bool(valid.all()) or not isinstance(new, Gaussian):
        return new
    mask = valid[:, None, None]
    return Gaussian(torch.where(mask, new.mean, old.mean), torch.where(mask, new.std, old.std))
