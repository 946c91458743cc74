"""Playing episodes and saying honestly how they went."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from numpy.typing import ArrayLike

from agent.agent import Agent
from planners import Plan

# An action element this near to its bound counts as saturated.
_SATURATED = 0.99


@runtime_checkable  # the tests check types while they run
class Actor(Protocol):
    """Anything that can play an episode.

    One that plans has two more attributes: `last_plan`, the `Plan` that the last action came from (None where the
    action needed no new one), and `budget`, the seconds that a decision may take (None: as long as it takes).
    """

    def seed(self, seed: int) -> None:
        """Fixes all randomness of the actions to come."""

    def reset(self) -> None:
        """An episode begins."""

    def act(self, observation: ArrayLike) -> np.ndarray:
        """The action for one observation."""


class RandomActor:
    """Uniformly random actions: the floor that everything is measured from."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Fixes the actions to come."""
        self.rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: ArrayLike) -> np.ndarray:
        """An action (A,) in [-1, 1]."""
        return self.rng.uniform(-1, 1, self.action_dim).astype(np.float32)


@dataclass
class Episodes:
    """The outcome of some episodes.

    Attributes:
        seeds: of each episode.
        returns: of each episode, undiscounted.
        lengths: of each episode, in decisions.
        terminated: whether each episode ended by termination.
        unstable: whether the physics diverged in each.
        milliseconds: of every decision, all episodes one after another; so are the next three.
        rewards: what each decision earned.
        predicted: the return that its plan promised; NaN for decisions without a new plan.
        evaluations: candidates scored for it.
        misses: decisions of each episode that took longer than the actor's budget.
        smoothness: of each episode, the mean absolute change of an action element from one decision to the next.
        saturated: of each episode, the share of action elements at their bounds.
        digests: of each episode, SHA-256 of its seed, actions and rewards: equal only for equal episodes.
    """

    seeds: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    unstable: list[bool] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    misses: list[int] = field(default_factory=list)
    smoothness: list[float] = field(default_factory=list)
    saturated: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    @property
    def mean_return(self) -> float:
        """Mean over all episodes."""
        return float(np.mean(self.returns))

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """95 % bootstrap interval of the mean return."""
        return bootstrap_interval(self.returns)

    def extend(self, others: "Episodes") -> "Episodes":
        """Appends other episodes, and returns itself."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(others, each.name))
        return self

    def percentiles(self) -> dict[str, float]:
        """Milliseconds a decision: p50, p95 and p99."""
        p50, p95, p99 = np.percentile(self.milliseconds, [50, 95, 99])
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def bootstrap_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % percentile-bootstrap interval of the mean.

    (None, None) for a single value, which says nothing of spread, and where something is NaN or infinite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None, None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    import scipy.stats  # takes half a second to import, which those who only act need not wait for

    result = scipy.stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def play(
    actor: Actor,
    env: gymnasium.Env[Any, Any],
    seeds: Sequence[int],
    on_decision: Callable[[int, float], None] | None = None,
    on_frame: Callable[[int, Any], None] | None = None,
) -> Episodes:
    """Plays one episode for each seed, one after another.

    The seed fixes both the environment's and the actor's randomness, so an episode is the same whichever others are
    played beside it, and two actors meet the same starting states.

    Args:
        actor: who plays.
        env: where; its own time limit must end the episodes.
        seeds: one an episode.
        on_decision: called after every decision with the episode's number and its return so far.
        on_frame: called with the episode's number and a rendered frame after every decision, and at the start.

    Returns:
        All episodes, diverged ones included.
    """
    episodes = Episodes()
    for number, seed in enumerate(seeds):
        actor.seed(seed)
        actor.reset()
        observation, _ = env.reset(seed=seed)
        total, unstable, terminated, truncated = 0.0, False, False, False
        actions: list[np.ndarray] = []
        budget, misses, begun = getattr(actor, "budget", None), 0, len(episodes.rewards)
        if on_frame:
            on_frame(number, env.render())
        while not (terminated or truncated):
            began = time.perf_counter()
            action = actor.act(observation)
            seconds = time.perf_counter() - began
            episodes.milliseconds.append(seconds * 1000)
            misses += budget is not None and seconds > budget
            plan: Plan | None = getattr(actor, "last_plan", None)
            episodes.predicted.append(float("nan") if plan is None else float(plan.value[0]))
            episodes.evaluations.append(0 if plan is None else plan.evaluations)
            actions.append(action)
            observation, reward, terminated, truncated, info = env.step(action)
            unstable = unstable or bool(info.get("unstable", False))
            earned = 0.0 if unstable else float(reward)  # where the physics diverged, what is reported means nothing
            total += earned
            episodes.rewards.append(earned)
            if on_decision:
                on_decision(number, total)
            if on_frame:
                on_frame(number, env.render())
        episodes.seeds.append(int(seed))
        episodes.returns.append(total)
        episodes.lengths.append(len(actions))
        episodes.terminated.append(bool(terminated))
        episodes.unstable.append(unstable)
        episodes.misses.append(misses)
        taken = np.stack(actions).astype(np.float32)
        changes = np.abs(np.diff(taken, axis=0))
        episodes.smoothness.append(float(changes.mean()) if changes.size else 0.0)
        episodes.saturated.append(float((np.abs(taken) >= _SATURATED).mean()))
        episodes.digests.append(_digest(seed, taken, episodes.rewards[begun:]))
    return episodes


def _digest(seed: int, actions: np.ndarray, rewards: list[float]) -> str:
    data = np.int64(seed).tobytes() + actions.tobytes() + np.asarray(rewards, np.float64).tobytes()
    return hashlib.sha256(data).hexdigest()


def evaluate(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    seeds: Sequence[int],
    on_decision: Callable[[int, float], None] | None = None,
    **planning: Any,
) -> Episodes:
    """Plays evaluation episodes with a copy of the agent that shares its model, so that training is not disturbed.

    Args:
        agent: its generator and running plan are left alone.
        env: an environment of its own, not the one that experience is collected in.
        seeds: one an episode.
        on_decision: as in `play`.
        planning: options to change, such as `planner="policy"`.
    """
    double = object.__new__(type(agent))
    double.__dict__.update(agent.__dict__)
    double.use_planner(**planning)
    with torch.inference_mode():
        return play(double, env, seeds, on_decision)
