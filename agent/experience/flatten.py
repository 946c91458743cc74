"""Observations of any shape as vectors, and actions of any bounds in [-1, 1], for whole episodes at once."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


def flat_space(space: spaces.Space[Any]) -> bool:
    """Whether its elements can be flattened to vectors, and are no pictures."""
    return space.is_np_flattenable and not _pictures(space)


def flatten(space: spaces.Space[Any], observations: Any) -> NDArray[np.float32]:
    """Observations (T, O) in float32, each flattened as `gymnasium.spaces.flatten` does.

    Args:
        space: one that `flat_space` approves of.
        observations: of `T` steps: an array, or a dict or tuple of such, nested as the space is.

    Raises:
        ValueError, KeyError: when they are not what the space says.
    """
    return np.ascontiguousarray(_parts(space, observations), np.float32)


def _parts(space: spaces.Space[Any], observations: Any) -> NDArray[Any]:
    if isinstance(space, spaces.Dict):
        return np.concatenate([_parts(part, observations[name]) for name, part in space.spaces.items()], axis=1)
    if isinstance(space, spaces.Tuple):
        pairs = zip(space.spaces, observations, strict=True)
        return np.concatenate([_parts(part, each) for part, each in pairs], axis=1)
    if isinstance(space, spaces.Box):
        observations = np.asarray(observations)
        if observations.shape[1:] != space.shape:
            raise ValueError(f"observations of shape {observations.shape[1:]} in a space of shape {space.shape}")
        return observations.reshape(len(observations), -1)
    return np.stack([np.asarray(spaces.flatten(space, each)) for each in observations])


def _pictures(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_pictures, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_pictures, space.spaces))
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) >= 2


def bounded(space: spaces.Space[Any]) -> bool:
    """Whether an action space is continuous and has bounds that can be scaled to [-1, 1]."""
    return (
        isinstance(space, spaces.Box)
        and np.issubdtype(space.dtype, np.floating)
        and bool(np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all())
    )


def scale_actions(space: spaces.Box, actions: Any) -> NDArray[np.float32]:
    """Actions (T, A) in float32, clipped to the space's bounds and scaled from them to [-1, 1].

    Raises:
        ValueError: when they have another shape than the space.
    """
    actions = np.asarray(actions)
    if actions.shape[1:] != space.shape:
        raise ValueError(f"actions of shape {actions.shape[1:]} in a space of shape {space.shape}")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    # What lies in [-1, 1] by itself keeps every bit, which scaling would not.
    scaled = np.where((low == -1) & (high == 1), actions, (actions - low) / (high - low) * 2 - 1)
    return np.clip(scaled, -1, 1).astype(np.float32).reshape(len(actions), -1)
