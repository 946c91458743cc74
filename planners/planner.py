"""The loop that all planners share: sample, score, refit.

An algorithm is its `init`, `sample` and `update`; everything else that a planner promises is kept here, once:
actions in the box, proposals and the warm start taken into account, knots, bad scores never winning, deadlines,
no hidden state.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from planners.errors import PlannerError
from planners.knots import INTERPOLATIONS, Interpolation, Knots
from planners.plan import Plan, Score

# How much of the longest iteration so far the next one is expected to take, with the score of the mean after it.
_FORECAST = 1.25


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
        remember: of the kept elites, how many the plan carries to the next decision, where they compete again,
            shifted like the plan itself.
        initial_std: standard deviation that the search begins with, around its warm start, and never exceeds.
        min_std: floor of the standard deviation, so that the search never stops looking.
        noise_beta: colour of the noise in time: the exponent of its power law, 0 for white. See `planners.noise`.
        knots: actions searched for, evenly over the horizon; None for one a decision. See `planners.knots`.
        interpolation: what lies between knots: `zero`, `linear` or `cubic`.
        execute: what is returned: the distribution's `mean`, or the `best` candidate seen. The best overfits a
            learned model's errors, the mean averages them out; the best is exact where the model is.
    """

    horizon: int
    action_dim: int
    samples: int = 256
    iterations: int = 3
    elites: int = 32
    keep: int = 8
    remember: int = 0
    initial_std: float = 1.0
    min_std: float = 0.05
    noise_beta: float = 0.0
    knots: int | None = None
    interpolation: Interpolation = "cubic"
    execute: str = "mean"

    def __post_init__(self) -> None:
        self._whole(1, "horizon", "action_dim", "samples", "iterations", "elites", "keep")
        self._whole(0, "remember")
        if not 0 < self.min_std <= self.initial_std < float("inf"):
            raise PlannerError(
                f"min_std is {self.min_std} and initial_std {self.initial_std}; they must be 0 < min_std <= initial_std"
            )
        if not 0 <= self.noise_beta <= 10:
            raise PlannerError(f"noise_beta is {self.noise_beta}; it must lie between 0 (white) and 10")
        if self.knots is not None:
            self._whole(1, "knots")
            if self.knots > self.horizon:
                raise PlannerError(f"knots is {self.knots}; there can't be more than decisions, {self.horizon}")
        for name, values in {"interpolation": INTERPOLATIONS, "execute": ("mean", "best")}.items():
            if getattr(self, name) not in values:
                raise PlannerError(f"{name} is {getattr(self, name)!r}; it must be {', '.join(map(repr, values))}")

    def _whole(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PlannerError(f"{name} is {value!r}; it must be a whole number of {least} or more")

    @property
    def length(self) -> int:
        """Actions searched for: the knots, or else one a decision."""
        return self.horizon if self.knots is None else self.knots


@dataclass(frozen=True)
class Scored:
    """What an iteration has found out, in terms of what is searched for: K is `config.length`.

    A value of -inf marks a candidate that must be ignored.

    Attributes:
        elites: (B, E, K, A) the best so far, best first.
        values: (B, E) their scores.
        fresh: (B, M, K, A) what was scored in this iteration; the last `samples` of them as `sample` drew them, before
            them, in the first iteration only, the warm start and the proposals.
        fresh_values: (B, M) their scores.
        slopes: (B, M, K, A) gradients of their scores, for a planner that asks for them.
    """

    elites: Float[Tensor, "B E K A"]
    values: Float[Tensor, "B E"]
    fresh: Float[Tensor, "B M K A"]
    fresh_values: Float[Tensor, "B M"]
    slopes: Float[Tensor, "B M K A"] | None = None


class Drawn:
    """Standard normal deviates that were drawn before, for a search to take in the place of a generator.

    Args:
        deviates: what each iteration draws, (N, K, A), or (B, N, K, A) where every environment has its own.
    """

    def __init__(self, deviates: Sequence[Float[Tensor, "..."]]) -> None:
        self._left = list(deviates)

    def take(self) -> Float[Tensor, "..."]:
        """The next iteration's."""
        return self._left.pop(0)


class Planner(ABC):
    """A search over action sequences. Subclasses say how candidates are drawn and learned from.

    A planner keeps nothing between calls and uses no global randomness: the same inputs and generator state
    give the same plan.

    Attributes:
        differentiates: whether it needs the gradient of the score. Such a planner can't be used inside
            `torch.inference_mode`.
        own_size: whether its `samples` and `iterations` mean something that sizes made for sampling would not suit.
        colours_noise: whether `noise_beta` means anything to it.
    """

    Config: ClassVar[type[PlannerConfig]] = PlannerConfig
    differentiates: ClassVar[bool] = False
    own_size: ClassVar[bool] = False
    colours_noise: ClassVar[bool] = True

    def __init__(self, config: PlannerConfig) -> None:
        if config.noise_beta and not self.colours_noise:
            raise PlannerError(f"noise_beta is {config.noise_beta}, but {type(self).__name__} draws no coloured noise")
        self.config = config
        self._knots = None if config.knots is None else Knots(config.horizon, config.knots, config.interpolation)

    @abstractmethod
    def init(self, start: Float[Tensor, "B K A"], generator: Any) -> Any:
        """What the search begins with, around the warm start (zeros where there is none).

        `generator` is a `torch.Generator`; or `Drawn`, for a planner that says by `deviates` that it takes it.
        """

    @abstractmethod
    def sample(self, search: Any, iteration: int, generator: Any) -> Float[Tensor, "B N K A"]:
        """The candidates of an iteration, counted from 0: `config.samples` of them, or as many as the algorithm wants.

        The loop clips them to [-1, 1].
        """

    @abstractmethod
    def update(self, search: Any, scored: Scored) -> Any:
        """What the search goes on with. At least one value is finite in each row that the loop goes on to use."""

    def spread(self, search: Any) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K A"]] | None:
        """Mean and standard deviation of the search distribution; None for a planner that has none."""
        return None

    def deviates(self) -> tuple[int, ...] | None:
        """Shape of all standard normal deviates that a search takes, (iterations, N, K, A), as `Drawn` is given them.

        None for a planner that can't be given any.
        """
        return None

    @torch.no_grad()
    def plan(
        self,
        score: Score,
        batch: int = 1,
        warm_start: Plan | Float[Tensor, "B H A"] | None = None,
        proposals: Float[Tensor, "B P H A"] | None = None,
        deadline: float | None = None,
        generator: torch.Generator | Drawn | None = None,
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
            generator: source of randomness, on `device`; or what was drawn before, see `deviates`. None draws the same
                deviates at every call.
            device: where candidates are drawn.

        Returns:
            A `Plan` that scores no worse than the warm start and than the best proposal.

        Raises:
            PlannerError: when a shape does not fit.
        """
        config = self.config
        generator = generator or torch.Generator(device).manual_seed(0)
        shape = (batch, config.horizon, config.action_dim)
        start, pool = self._pool(warm_start, proposals, shape, device)
        search = self.init(self._project(start), generator)
        # Candidates, as they are searched for and as they are scored; without knots they are the same.
        kept = kept_actions = pool[:, :0]
        # Values: of those, of what was drawn first, and the best of what is not to be fallen short of.
        kept_values = first = floor = pool[:, :0, 0, 0]
        evaluations = iterations = 0
        longest = 0.0
        while True:
            began = time.monotonic()
            fresh = self.sample(search, iterations, generator).clamp(-1, 1)
            actions = self._expand(fresh)
            if iterations == 0:
                fresh = torch.cat([self._project(pool), fresh], dim=1)
                actions = fresh if self._knots is None else torch.cat([pool, actions], dim=1)
                kept = fresh[:, :0]
            fresh_values, slopes = self._assess(score, actions)
            evaluations += fresh.shape[1]
            if iterations == 0:
                floor = fresh_values[:, : pool.shape[1]].amax(dim=1)
                first = fresh_values[:, pool.shape[1] :]
            values = torch.cat([kept_values, fresh_values], dim=1)
            candidates = torch.cat([kept, fresh], dim=1)
            top, index = values.topk(min(config.elites, values.shape[1]), dim=1)
            elites = elite_actions = _pick(candidates, index)
            if self._knots is not None:
                elite_actions = _pick(torch.cat([kept_actions, actions], dim=1), index)
            search = self.update(search, Scored(elites, top, fresh, fresh_values, slopes))
            kept, kept_actions = elites[:, : config.keep], elite_actions[:, : config.keep]
            kept_values = top[:, : config.keep]
            iterations += 1
            if deadline is not None and torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)  # or it would be known only when the work was handed over
            now = time.monotonic()
            longest = max(longest, now - began)
            if iterations == config.iterations or (deadline is not None and now + _FORECAST * longest > deadline):
                break

        plan, value = elite_actions[:, 0], top[:, 0]
        valid = value > -torch.inf
        spread = self.spread(search)
        std = torch.zeros_like(start) if spread is None else self._expand_std(spread[1])
        # NaN where all are bad.
        stakes = torch.nan_to_num(first.amax(dim=1) - first.median(dim=1).values)
        late = deadline is not None and time.monotonic() > deadline
        if config.execute == "mean" and spread is not None and not late:
            mean = self._expand(spread[0].clamp(-1, 1))
            mean_value = _finite(score(mean.unsqueeze(1)), (batch, 1)).squeeze(1)
            evaluations += 1
            good = (mean_value >= floor) & (mean_value > -torch.inf)
            plan = torch.where(good[:, None, None], mean, plan)
            value = torch.where(good, mean_value, value)
            valid = valid | good
        plan = torch.where(valid[:, None, None], plan, start)
        remembered = kept_actions[:, : config.remember] if config.remember else None
        return Plan(plan, value, std, evaluations, iterations, valid, stakes, remembered)

    def _pool(
        self, warm_start: Plan | Tensor | None, proposals: Tensor | None, shape: tuple[int, int, int], device: Any
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B P H A"]]:
        """The warm start, and everything that competes in the first iteration before anything is drawn."""
        remembered = None
        if isinstance(warm_start, Plan):
            remembered, warm_start = warm_start.elites, warm_start.actions
        start = torch.zeros(shape, device=device)
        if warm_start is not None:
            if tuple(warm_start.shape) != shape:
                raise PlannerError(f"the warm start has shape {tuple(warm_start.shape)}; expected (B, H, A) = {shape}")
            start = _boxed(warm_start, device)
        # The start competes too, even when it is only zeros: the answer is then never worse than doing nothing.
        pool = [start.unsqueeze(1)]
        if proposals is not None:
            pool.append(self._proposals(proposals, shape, device))
        if remembered is not None and self.config.remember:
            pool.append(self._proposals(remembered, shape, device)[:, : self.config.remember])
        return start, torch.cat(pool, dim=1)

    def _proposals(self, proposals: Tensor, shape: tuple[int, int, int], device: Any) -> Tensor:
        if proposals.ndim != 4 or (proposals.shape[0], *proposals.shape[2:]) != shape:
            b, h, a = shape
            raise PlannerError(
                f"the proposals have shape {tuple(proposals.shape)}; expected (B, P, H, A) = ({b}, any, {h}, {a})"
            )
        return _boxed(proposals, device)

    def _assess(self, score: Score, actions: Tensor) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M K A"] | None]:
        """Scores, and their gradients where the planner asks for them; gradients that aren't finite are zero."""
        if not self.differentiates:
            return _finite(score(actions), actions.shape[:2]), None
        with torch.enable_grad():
            actions = actions.detach().requires_grad_()
            values = score(actions)
            slopes = None
            if values.requires_grad:  # it may also be that of a model's weights alone
                (slopes,) = torch.autograd.grad(values.sum(), actions, allow_unused=True)
            if slopes is None:
                raise PlannerError("this planner climbs the score's gradient, and the score has none")
        # Within what float32 can square.
        slopes = torch.where(torch.isfinite(slopes), slopes, 0.0).clamp(-1e18, 1e18)
        slopes = slopes if self._knots is None else self._knots.pull_back(slopes)
        return _finite(values.detach(), actions.shape[:2]), slopes

    def _expand(self, searched: Tensor) -> Tensor:
        return searched if self._knots is None else self._knots.expand(searched)

    def _expand_std(self, std: Tensor) -> Tensor:
        """How unsure each decision's action is, from how unsure each knot is."""
        return std if self._knots is None else self._knots.expand_std(std)

    def _project(self, actions: Tensor) -> Tensor:
        return actions if self._knots is None else self._knots.project(actions)


def _pick(candidates: Tensor, index: Tensor) -> Tensor:
    return candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))


def _boxed(actions: Tensor, device: torch.device | str) -> Tensor:
    """A user's actions as the search takes them: float32, finite and within [-1, 1]."""
    return torch.nan_to_num(actions.to(device, torch.float32)).clamp(-1, 1)


def _finite(values: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Scores with NaN and both infinities turned into -inf, the worst."""
    if tuple(values.shape) != tuple(shape):
        raise PlannerError(f"the score returned shape {tuple(values.shape)}; expected (B, N) = {tuple(shape)}")
    return torch.where(torch.isfinite(values), values, -torch.inf)
