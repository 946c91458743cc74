"""The agent: encode, plan, act."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

import planners
from agent.config import PlanningConfig, TrainConfig
from agent.errors import ConfigError, ObservationError
from agent.world_model import WorldModel
from planners import Plan


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


class Agent:
    """A world model and a planner that acts with it.

    Args:
        config: sizes and planning.
        observation_dim: elements of an observation, O.
        action_dim: elements of an action, A.
        info: what the agent is for.
        device: `auto`, `cpu` or `cuda`.
        seed: seeds the initial weights and the planner's candidates.
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
        self.config, self.info = config, info
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
        self.use_planner()
        self.seed(seed)
        self._warm_start: Tensor | None = None

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
        planning = planning or self.planning
        try:
            planning = replace(planning, **changes)
        except TypeError as error:
            raise ConfigError(f"no such planning option: {error}") from None
        planner = None
        if planning.planner != "policy":
            planner = planners.make(
                planning.planner,
                horizon=planning.horizon,
                action_dim=self.model.action_dim,
                samples=planning.samples,
                iterations=planning.iterations,
                elites=planning.elites,
            )
        self.planner: planners.Planner | None = planner
        self.planning = planning
        self._warm_start = None
        return self

    def seed(self, seed: int) -> None:
        """Seeds the planner's candidates."""
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self) -> None:
        """Forgets the running plan. Call it when an episode begins."""
        self._warm_start = None

    def act(self, observation: ArrayLike, explore: bool = False) -> Float[np.ndarray, "*B A"]:
        """The next action, for one environment or a batch.

        The plan is remembered as the next call's warm start, so call `reset` when episodes begin.

        Args:
            observation: (O,) or (B, O), finite.
            explore: draw from around the plan, as training does, in place of its mean.

        Returns:
            (A,) or (B, A), in [-1, 1].

        Raises:
            ObservationError: for a wrong shape, NaN or infinity.
        """
        x = self._observation(observation)
        if self._warm_start is not None and len(self._warm_start) != len(x):
            self._warm_start = None
        action, self._warm_start = self._decide(x, self._warm_start, explore)
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
        """
        x = self._observation(observation)
        warm = None
        if state is not None:
            warm = torch.from_numpy(np.array(state[0], np.float32)).to(self.device)
            if episode_start is not None:
                warm[torch.from_numpy(np.asarray(episode_start, bool).reshape(-1)).to(self.device)] = 0
        action, warm = self._decide(x, warm, not deterministic)
        after = None if warm is None else (warm.cpu().numpy(),)
        return (action[0] if np.ndim(observation) == 1 else action), after

    def plan(self, observation: ArrayLike, warm_start: Tensor | None = None, deadline: float | None = None) -> Plan:
        """The whole plan for observations (O,) or (B, O).

        Args:
            observation: finite.
            warm_start: (B, H, A) where the search begins.
            deadline: a `time.monotonic()` instant to be done by.

        Raises:
            ConfigError: when the agent has no planner.
        """
        return self._plan(self._observation(observation), warm_start, deadline)

    @torch.inference_mode()
    def _plan(self, x: Tensor, warm_start: Tensor | None = None, deadline: float | None = None) -> Plan:
        if self.planner is None:
            raise ConfigError("this agent acts by its policy prior alone; give it a planner with use_planner")
        latent = self.model.encode(x)
        proposals = None
        if self.planning.proposals:
            proposals = self.model.propose(latent, self.planning.proposals, self.planning.horizon, self.generator)
        return self.planner.plan(
            self.model.score(latent),
            batch=len(x),
            warm_start=warm_start,
            proposals=proposals,
            deadline=deadline,
            generator=self.generator,
            device=self.device,
        )

    @torch.inference_mode()
    def _decide(self, x: Tensor, warm: Tensor | None, explore: bool) -> tuple[np.ndarray, Tensor | None]:
        """Actions (B, A), and the next warm start (None without a planner)."""
        if self.planner is None:
            latent = self.model.encode(x)
            action, _ = self.model.act(latent, self._noise(len(x)) if explore else None)
            return action.cpu().numpy(), None
        plan = self._plan(x, warm)
        action = plan.actions[:, 0]
        if explore:
            action = (action + plan.std[:, 0] * self._noise(len(x))).clamp(-1, 1)
        return action.cpu().numpy(), plan.shift().actions

    def _noise(self, batch: int) -> Tensor:
        return torch.randn(batch, self.model.action_dim, generator=self.generator, device=self.device)

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
    def load(folder: str | Path, device: str = "auto") -> "Agent":
        """The agent in a checkpoint folder.

        Raises:
            CheckpointError: when it is missing, damaged or not a checkpoint.
        """
        from agent.checkpoint import load

        return load(folder, device)


def configure_torch(config: TrainConfig) -> None:
    """Sets this process's threads and matrix-product precision to what a configuration asks for.

    Commands call it; a program that merely loads an agent keeps its own settings.
    """
    torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision(config.matmul_precision)


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
