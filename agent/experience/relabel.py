"""Rewards of another task for what was lived through, by living through it again."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from agent.errors import ExperienceError
from agent.experience.episodes import Episode, EpisodeData

# On one machine observations come out bit for bit; another processor or another MuJoCo may round the last digits
# differently. This is far below what two tasks' worlds differ by, and far above what rounding comes to.
TOLERANCE = 1e-5


def relabel(data: EpisodeData, episode: Episode, env: gymnasium.Env[Any, Any]) -> EpisodeData:
    """An episode as another task would have rewarded it.

    The stored actions are played again from the stored seed. Whatever the new task says of rewards, termination and
    truncation replaces what was stored; where it ends earlier, so does the episode. Observations and actions stay as
    they were stored, bit for bit.

    Args:
        data: the stored episode.
        episode: what is known of it; its seed and action repeat.
        env: of the new task, with the episode's action repeat.

    Raises:
        ExperienceError: when the episode can't be repeated in that task: its seed is not known, or the observations
            come out differently, since the tasks' worlds or their starting states differ.
    """
    if episode.seed is None:
        raise ExperienceError(
            f"episode {episode.number} of {episode.task} was stored without its seed, so it can't be repeated elsewhere"
        )
    if env.action_space.shape != data.actions.shape[1:]:
        raise _differs(
            episode, f"an action has shape {data.actions.shape[1:]} in one and {env.action_space.shape} in the other"
        )
    observation, _ = env.reset(seed=episode.seed)
    if not _equal(observation, data.observations[0]):
        raise _differs(episode, "from the same seed they begin in different states")
    rewards: list[float] = []
    terminated = truncated = False
    for action, after in zip(data.actions, data.observations[1:], strict=True):
        observation, reward, terminated, truncated, _ = env.step(action.copy())
        rewards.append(float(reward))
        if not _equal(observation, after):
            raise _differs(episode, f"after {len(rewards)} decisions the observations differ")
        if terminated or truncated:
            break
    return _rewarded(data, rewards, bool(terminated), bool(truncated))


def _equal(observation: Any, stored: np.ndarray) -> bool:
    observation = np.asarray(observation, np.float32)
    return observation.shape == stored.shape and bool(
        (np.abs(observation - stored) <= TOLERANCE * np.maximum(1, np.abs(stored))).all()
    )


def _rewarded(data: EpisodeData, rewards: list[float], terminated: bool, truncated: bool) -> EpisodeData:
    length = len(rewards)

    def at_the_end(flag: bool, like: np.ndarray) -> np.ndarray:
        flags = np.zeros(length, like.dtype)
        flags[-1:] = flag
        return flags

    return replace(
        data,
        observations=data.observations[: length + 1],
        actions=data.actions[:length],
        rewards=np.array(rewards, data.rewards.dtype),
        terminated=at_the_end(terminated, data.terminated),
        truncated=at_the_end(truncated, data.truncated),
        actors=data.actors[:length],
    )


def _differs(episode: Episode, how: str) -> ExperienceError:
    return ExperienceError(
        f"episode {episode.number} of {episode.task} can't be repeated in that task, the worlds differ: {how}"
    )
