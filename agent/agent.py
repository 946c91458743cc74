"""The agent: encode, plan, act."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from agent.config import PlanningConfig, TrainConfig
from agent.engine import Engine, proposal_noise
from agent.errors import ConfigError, ObservationError
from agent.precision import set_matmul_precision
from agent.running import Running, decide, from_arrays, to_arrays
from agent.world_model import WorldModel
from planners import Plan, Planner


@dataclass
class AgentInfo:
    """What an agent is for, and where it comes from.

    Attributes:
        task: the task it was trained on.
        action_repeat: environment steps that one decision lasts.
        decisions: decisions of a full episode; None where there is no limit.
        can_terminate: whether episodes can end by termination.
        angles: elements of the observation that wind up, the angles of joints without limits.
        training: how it was trained: steps, seed, commit, versions.
    """

    task: str
    action_repeat: int = 1
    decisions: int | None = None
    can_terminate: bool = True
    angles: tuple[int, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Any) -> "AgentInfo":
        """What an agent is for as it was saved, every field of it; the reverse of `dataclasses.asdict`.

        Raises:
            ConfigError: for anything else.
        """
        if not isinstance(values, dict) or values.keys() != _SAVED.keys():
            raise ConfigError(f"what the agent is for is {repr(values)[:80]}; expected {', '.join(_SAVED)}")
        for key, kinds in _SAVED.items():
            value = values[key]
            if type(value) not in kinds or (key == "angles" and not all(type(i) is int for i in value)):
                raise ConfigError(f"{key} is {repr(value)[:80]}; it can't be that")
            if type(value) is int and value < 1:
                raise ConfigError(f"{key} is {value}; it must be at least 1")
        return cls(**values | {"angles": tuple(values["angles"])})


_SAVED: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "action_repeat": (int,),
    "decisions": (int, type(None)),
    "can_terminate": (bool,),
    "angles": (list, tuple),
    "training": (dict,),
}


class Agent:
    """A world model and a planner that acts with it.

    Args:
        config: sizes and planning.
        observation_dim: elements of an observation, O.
        action_dim: elements of an action, A.
        info: what the agent is for.
        device: `auto`, `cpu` or `cuda`.
        seed: seeds the initial weights and the planner's candidates.

    Attributes:
        engine: where the model's part of planning is computed.
    """

    def __init__(
        self,
        config: TrainConfig,
        observation_dim: int,
        action_dim: int,
        info: AgentInfo,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.config, self.info, self.engine = config, info, Engine()
        self.device = choose_device(device)
        learner = config.learner
        with torch.random.fork_rng(devices=[]):  # initial weights come from the seed alone
            torch.manual_seed(seed)
            self.model = WorldModel(
                config.model,
                observation_dim,
                action_dim,
                discount=learner.resolve_discount(info.decisions),
                can_terminate=info.can_terminate,
                log_std=(learner.log_std_min, learner.log_std_max),
                angles=info.angles,
            ).to(self.device)
        # Stable-Baselines3's tools look for these two.
        self.observation_space = spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32)
        self.action_space = spaces.Box(-1, 1, (action_dim,), np.float32)
        self.planning = config.planning
        self.planner: Planner | None = None
        self.use_planner()
        self.seed(seed)

    def use_planner(self, planning: PlanningConfig | None = None, **changes: Any) -> "Agent":
        """Plans differently from now on.

        Args:
            planning: the whole configuration; the present one when None.
            changes: fields of it to change, such as `planner="cem"`.

        Returns:
            The agent itself.

        Raises:
            ConfigError, planners.PlannerError: for what does not exist or makes no sense.
        """
        planning = (planning or self.planning).changed(**changes)
        self.planner = planning.make(self.model.action_dim)
        self.planning = planning
        self.reset()
        return self

    def seed(self, seed: int) -> None:
        """Seeds the planner's candidates."""
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self) -> None:
        """Forgets the running plan. Call it when an episode begins."""
        self.running: Running | None = None  # what the next decision goes on from
        self.last_plan: Plan | None = None

    @property
    def budget(self) -> float | None:
        """Seconds that a decision may take; None for as long as it takes."""
        milliseconds = self.planning.budget_ms
        return None if milliseconds is None or self.planner is None else milliseconds / 1000

    def act(
        self, observation: ArrayLike, explore: bool = False, noise: ArrayLike | None = None
    ) -> Float[np.ndarray, "*B A"]:
        """The next action, for one environment or a batch.

        The plan is remembered, as `last_plan` and as the next call's warm start, so call `reset` when episodes begin.

        Args:
            observation: (O,) or (B, O), finite.
            explore: draw from around the plan, as training does, in place of its mean; more widely where candidates
                promise alike, see `PlanningConfig.indifference`.
            noise: (A,) or (B, A) standard normal deviates to explore with; None to draw them here.

        Returns:
            (A,) or (B, A), in [-1, 1].

        Raises:
            ObservationError: for a wrong shape, NaN or infinity.
            ValueError: for noise of a wrong shape.
        """
        x = self._observation(observation)
        deviates = None
        if explore:
            deviates = self._noise(len(x)) if noise is None else self._deviates(noise, len(x))
        action, self.last_plan, self.running = self._decide(x, self.running, deviates)
        return action[0] if np.ndim(observation) == 1 else action

    def predict(
        self,
        observation: ArrayLike,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The next action, in Stable-Baselines3's convention.

        Args:
            observation: (O,) or (B, O).
            state: what the last call returned; the plan's warm start. None when episodes begin.
            episode_start: (B,) True where an episode begins, which forgets that environment's plan.
            deterministic: False adds exploration noise.

        Returns:
            action (A,) or (B, A), and the state for the next call.

        Raises:
            ObservationError: for a wrong shape, NaN or infinity.
            ValueError: when `episode_start` and `state` are of different sizes.
        """
        x = self._observation(observation)
        running = None if state is None else from_arrays(state, episode_start, self.device)
        action, _, running = self._decide(x, running, None if deterministic else self._noise(len(x)))
        return (action[0] if np.ndim(observation) == 1 else action), None if running is None else to_arrays(running)

    def plan(
        self, observation: ArrayLike, warm_start: Plan | Tensor | None = None, deadline: float | None = None
    ) -> Plan:
        """The whole plan for observations (O,) or (B, O).

        Args:
            observation: finite.
            warm_start: (B, H, A) where the search begins, or a `Plan`.
            deadline: a `time.monotonic()` instant to be done by.

        Raises:
            ConfigError: when the agent has no planner.
        """
        x = self._observation(observation)
        with self._without_gradients():
            return self._plan(x, warm_start, deadline)

    def value(self, observations: Float[Tensor, "M O"]) -> Float[Tensor, " M"]:
        """What the agent expects to earn from states on, discounted: the value of the prior's most likely action.

        It is what a search ends with, in the learned model and, where wanted, in another one.

        Args:
            observations: (M, O), finite, on any device.

        Returns:
            (M,) in units of return, on the agent's device.
        """
        with torch.inference_mode():
            return self.model.state_value(self.model.encode(observations.to(self.device)))

    def _plan(self, x: Tensor, warm_start: Plan | Tensor | None = None, deadline: float | None = None) -> Plan:
        if self.planner is None:
            raise ConfigError("this agent acts by its policy prior alone; give it a planner with use_planner")
        return self.engine.plan(self.model, self.planner, self.planning, x, self.generator, warm_start, deadline)

    def propose(self, observation: ArrayLike) -> Float[Tensor, "B P H A"] | None:
        """What the policy prior would do, imagined in the learned model; None where no proposals are wanted.

        Args:
            observation: (O,) or (B, O), finite.

        Returns:
            `planning.proposals` action sequences for each environment, the first one without noise.

        Raises:
            ObservationError: for a wrong shape, NaN or infinity.
        """
        x = self._observation(observation)
        with torch.inference_mode():
            return self.engine.propose(self.model, x, proposal_noise(self.model, self.planning, self.generator))[1]

    def _decide(
        self, x: Tensor, running: Running | None, noise: Tensor | None
    ) -> tuple[np.ndarray, Plan | None, Running | None]:
        """Actions (B, A), the plan made for them, and what the next decision goes on from; None without a planner."""
        with self._without_gradients():
            if self.planner is None:
                return self.engine.act(self.model, x, noise).cpu().numpy(), None, None
            least = 0.0 if noise is None else self.planning.indifference
            decision = decide(
                self.planning, running, len(x), lambda warm, deadline: self._plan(x, warm, deadline).widened(least)
            )
            action = decision.action
            if noise is not None:
                action = (action + decision.std * noise).clamp(-1, 1)
            return action.cpu().numpy(), decision.plan, decision.running

    @contextlib.contextmanager
    def _without_gradients(self) -> Iterator[None]:
        """Inference mode; where the planner differentiates, the next best thing, since there it could not."""
        if self.planner is not None and self.planner.differentiates:
            with torch.inference_mode(False), torch.no_grad():
                yield
        else:
            with torch.inference_mode():
                yield

    def _noise(self, batch: int) -> Tensor:
        return torch.randn(batch, self.model.action_dim, generator=self.generator, device=self.device)

    def _deviates(self, noise: ArrayLike, batch: int) -> Tensor:
        deviates = np.broadcast_to(np.asarray(noise, np.float32), (batch, self.model.action_dim))
        return torch.tensor(deviates, device=self.device)

    def _observation(self, observation: ArrayLike) -> Tensor:
        x = np.asarray(observation, np.float32)
        size = self.model.observation_dim
        if x.ndim not in (1, 2) or x.shape[-1] != size:
            raise ObservationError(
                f"the observation has shape {x.shape}; this agent of {self.info.task} expects ({size},) "
                f"or (batch, {size})"
            )
        if not np.isfinite(x).all():
            raise ObservationError(
                "the observation has NaN or infinite elements; look at the environment, its physics may have diverged"
            )
        return torch.from_numpy(np.atleast_2d(x)).to(self.device)

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Writes a self-describing checkpoint folder; what was there before stays whole until the new one is.

        Args:
            folder: made when it does not exist.
            half: store the weights in half precision, half the size.
        """
        from agent.checkpoint import save

        save(self, folder, half)

    @staticmethod
    def load(folder: str | Path, device: str = "auto", allow_nan: bool = False) -> "Agent":
        """The agent in a checkpoint folder, which may come from anybody: nothing in it is run or imported.

        Args:
            folder: what `save` wrote, on any device and by any version up to this one.
            device: `auto`, `cpu` or `cuda`.
            allow_nan: load weights that are NaN or infinite too, to look at a run that diverged.

        Raises:
            CheckpointError: when it is missing, damaged or not a checkpoint.
            ConfigError: when the device isn't there.
        """
        from agent.checkpoint import load

        return load(folder, device, allow_nan)


def configure_torch(config: TrainConfig) -> None:
    """Sets this process's threads and matrix-product precision to what a configuration asks for.

    Commands call it; a program that merely loads an agent keeps its own settings.
    """
    torch.set_num_threads(config.threads)
    set_matmul_precision(config.matmul_precision)


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where torch finds one, and the CPU otherwise.

    Raises:
        ConfigError: for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, but torch finds no GPU; use --device cpu or auto")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}; there are: auto, cpu, cuda")
    return torch.device(name)
