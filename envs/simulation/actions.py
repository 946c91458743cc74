"""Scaling many actions at once as `NormalizedActions` scales one."""

from typing import Any

import gymnasium
import numpy as np

from envs.simulation.copies import chain
from envs.simulation.steps import Array
from envs.wrappers import NormalizedActions


class OwnActions:
    """From [-1, 1] to an environment's own bounds and type, bit for bit as its wrapper does.

    Args:
        env: an environment of `envs.make`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        space = next(layer for layer in chain(env) if isinstance(layer, NormalizedActions)).true_action_space
        self._dtype = space.dtype
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)
        self._from, self._to = self._low.astype(np.float64), self._high.astype(np.float64)

    def __call__(self, actions: Array) -> Array:
        """The environment's own actions (..., A) for float64 ones."""
        scaled = self._from + (np.clip(actions, -1, 1) + 1) / 2 * (self._to - self._from)
        return np.clip(scaled.astype(self._dtype), self._low, self._high)
