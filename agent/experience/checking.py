"""What may be stored."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agent.experience import records
from agent.experience.episodes import EpisodeData
from agent.experience.loading import checked_notes, describe
from agent.experience.records import LARGEST_DIM
from agent.experience.table import Notes

NOT_FINITE = "a decision with NaN or infinite values can't be stored as experience"
_LARGEST = float(np.finfo(np.float32).max)


def notes_of(task: str, seed: int | None, action_repeat: int, extra: dict[str, Any] | None) -> Notes:
    """What is known of an episode, as it comes back from the disk.

    Raises:
        ValueError: when it can't be stored.
    """
    seed = None if seed is None else int(seed)
    notes = checked_notes(task, seed, int(action_repeat), {} if extra is None else extra)
    values = records.decode_json(records.plain_json(describe(0, notes)))
    return checked_notes(values["task"], values["seed"], values["action_repeat"], values["extra"])


def vector(values: ArrayLike, what: str, size: int | None = None) -> np.ndarray:
    """An observation or an action as float32; infinite where it doesn't fit into that.

    Raises:
        ValueError: when it has not one dimension, or another size.
    """
    if type(values) is np.ndarray and values.dtype == np.float32:
        vector = values
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            vector = np.asarray(values, np.float32)
    if vector.ndim != 1 or not 1 <= len(vector) <= LARGEST_DIM or (size is not None and len(vector) != size):
        raise ValueError(f"{what} has shape {vector.shape}; expected ({'n' if size is None else size},)")
    return vector


def finite(reward: float) -> float:
    """A reward that float32 can hold.

    Raises:
        ValueError: when it isn't.
    """
    if not -_LARGEST <= reward <= _LARGEST:  # true for NaN as well
        raise ValueError(NOT_FINITE)
    return reward


def checked(data: EpisodeData) -> EpisodeData:
    """An episode that can be stored, as float32.

    Raises:
        ValueError: when it can't be: something isn't finite, or doesn't fit together.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        observations, actions, rewards = (
            np.asarray(x, np.float32) for x in (data.observations, data.actions, data.rewards)
        )
    length = len(rewards)
    if observations.ndim != 2 or actions.ndim != 2 or rewards.ndim != 1:
        raise ValueError("an episode's observations and actions are matrices, and its rewards are a vector")
    if len(observations) != length + 1 or not all(
        len(x) == length for x in (actions, data.terminated, data.truncated, data.actors)
    ):
        raise ValueError(f"an episode of {length} rewards takes as many actions, and one observation more")
    if not all(1 <= x.shape[1] <= LARGEST_DIM for x in (observations, actions)):
        raise ValueError(f"observations and actions take from 1 to {LARGEST_DIM:,} elements")
    if (data.terminated[:-1] | data.truncated[:-1]).any():
        raise ValueError("only the last decision of an episode can be terminated or truncated")
    if not all(np.isfinite(x).all() for x in (observations, actions, rewards)):
        raise ValueError(NOT_FINITE)
    return replace(data, observations=observations, actions=actions, rewards=rewards)
