"""Acting in the environment that a training run learns from."""

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agent.agent import Agent
from agent.errors import ConfigError
from agent.experience import EpisodeData
from agent.exploration import CorrelatedNoise
from agent.progress import Counts


@dataclass(frozen=True)
class Beginning:
    """How an episode begins.

    Attributes:
        observation: (O,) the first one.
        seed: that the environment was reset with.
    """

    observation: np.ndarray
    seed: int


@dataclass(frozen=True)
class Ending:
    """How an episode ended.

    Attributes:
        episode_return: its return.
        length: its decisions.
        following: how the next one begins.
    """

    episode_return: float
    length: int
    following: Beginning


@dataclass(frozen=True)
class Lived:
    """One decision, and what came of it.

    Attributes:
        action: (A,).
        actor: who chose it.
        reward: what it earned.
        observation: (O,) after it.
        terminated: nothing more can be earned.
        truncated: the episode was cut off.
        unstable: the simulation diverged; what it reports is no experience.
        ending: of the episode, where this was its last decision.
    """

    action: np.ndarray
    actor: str
    reward: float
    observation: np.ndarray
    terminated: bool
    truncated: bool
    unstable: bool
    ending: Ending | None


class Collector:
    """Takes decisions, one at a time, and begins another episode where one ends. It stores nothing.

    Args:
        env: where it acts.
        agent: what acts.
        counts: of the run; those of the running episode are kept here.
        seeds: where the seeds of episodes come from.
        random_actions: where random actions and exploration noise come from.

    Attributes:
        noise: that it explores with.
        plan_times: milliseconds of each plan; whoever looks at them clears them.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        agent: Agent,
        counts: Counts,
        seeds: np.random.Generator,
        random_actions: np.random.Generator,
    ) -> None:
        self.env, self.agent, self._counts = env, agent, counts
        self._seeds, self._random_actions = seeds, random_actions
        self.noise = CorrelatedNoise(agent.model.action_dim, agent.config.noise_time)
        self._observation = np.zeros(agent.model.observation_dim, np.float32)
        self.plan_times: list[float] = []

    def begin(self) -> Beginning:
        """Begins an episode."""
        self.agent.reset()
        self.noise.begin(self._random_actions)
        counts = self._counts
        counts.episode_return, counts.episode_length = 0.0, 0
        counts.episode_seed = int(self._seeds.integers(2**31))
        observation, _ = self.env.reset(seed=counts.episode_seed)
        self._observation = _as_stored(observation)
        return Beginning(self._observation, counts.episode_seed)

    def decide(self, random: bool) -> Lived:
        """One decision, at random or the agent's."""
        action, actor = self._act(random)
        observation, reward, terminated, truncated, info = self.env.step(action)
        unstable = bool(info.get("unstable", False))
        terminated, truncated = bool(terminated), bool(truncated) or unstable
        observation = self._observation = _as_stored(observation)
        counts, ending = self._counts, None
        counts.episode_return += 0.0 if unstable else float(reward)
        counts.episode_length += 1
        if terminated or truncated:
            episode_return, length = counts.episode_return, counts.episode_length
            ending = Ending(episode_return, length, self.begin())
        return Lived(action, actor, float(reward), observation, terminated, truncated, unstable, ending)

    def go_back(self, lived: EpisodeData) -> bool:
        """Brings the environment to where it was: the running episode's seed and actions lead there again.

        Args:
            lived: the running episode so far.

        Returns:
            Whether they do, which they don't in an environment that takes randomness from elsewhere.
        """
        self._observation = _as_stored(self.env.reset(seed=self._counts.episode_seed)[0])
        for action, expected in zip(lived.actions, lived.observations, strict=False):
            if not np.array_equal(self._observation, expected):
                return False
            self._observation = _as_stored(self.env.step(action)[0])
        return np.array_equal(self._observation, lived.observations[-1])

    def _act(self, random: bool) -> tuple[np.ndarray, str]:
        """The next action, and who chose it."""
        if random:
            if not self.agent.config.noise_time:
                return self._random_actions.uniform(-1, 1, self.agent.model.action_dim).astype(np.float32), "random"
            return self.noise.draw(self._random_actions).clip(-1, 1).astype(np.float32), "random"
        began = time.perf_counter()
        action = self.agent.act(self._observation, explore=True, noise=self.noise.draw(self._random_actions))
        self.plan_times.append((time.perf_counter() - began) * 1000)
        return action, self.agent.planning.planner


def _as_stored(observation: Any) -> np.ndarray:
    """An observation as the store keeps it; a copy, since an environment may use its memory again."""
    return np.array(observation, np.float32)


def sizes(env: gymnasium.Env[Any, Any]) -> tuple[int, int]:
    """Elements of an observation and of an action.

    Raises:
        ConfigError: for an environment that can't be trained in.
    """
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        raise ConfigError(f"the environment's observations are {observation}; training needs a flat Box")
    if not isinstance(action, spaces.Box) or len(action.shape) != 1:
        raise ConfigError(f"the environment's actions are {action}; training needs a flat Box")
    if not (np.all(action.low == -1) and np.all(action.high == 1)):
        raise ConfigError("the environment's actions must lie in [-1, 1]; wrap it in gymnasium.wrappers.RescaleAction")
    return observation.shape[0], action.shape[0]
