"""The contract, one wrapper a clause.

Each records its arguments, so that Gymnasium can make the environment again from its `spec`.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from envs.errors import TaskError
from envs.tasks import Task

Environment = gymnasium.Env[Any, Any]


class NormalizedActions(gymnasium.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Actions in [-1, 1], clipped and then rescaled to the environment's own bounds.

    Gymnasium's RescaleAction lets actions beyond the bounds through, and its ClipAction advertises infinite ones.

    Attributes:
        true_action_space: the environment's own bounds.
    """

    def __init__(self, env: Environment, task: str) -> None:
        RecordConstructorArgs.__init__(self, task=task)
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            raise TaskError(f"task {task!r} has actions {space}; preplay plans with continuous actions (a float Box)")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise TaskError(f"task {task!r} has actions without bounds, {space}; they can't be scaled to [-1, 1]")
        self.true_action_space = space
        self._low = space.low.reshape(-1).astype(np.float64)
        self._high = space.high.reshape(-1).astype(np.float64)
        self.action_space = spaces.Box(-1, 1, self._low.shape, np.float32)

    def action(self, action: NDArray[Any]) -> NDArray[Any]:
        """The environment's own action for one in [-1, 1].

        Raises:
            ValueError: for a wrong shape or NaN.
        """
        given = np.asarray(action, np.float64)
        if given.shape != self._low.shape:
            raise ValueError(f"the action has shape {given.shape}; this task expects {self._low.shape}")
        if np.isnan(given).any():
            raise ValueError("the action has NaN elements; every element must be a number in [-1, 1]")
        scaled = self._low + (np.clip(given, -1, 1) + 1) / 2 * (self._high - self._low)
        space = self.true_action_space
        # Rounding must not carry an action over its bound.
        return np.clip(scaled.astype(space.dtype).reshape(space.shape), space.low, space.high)


class FlatObservations(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Observations as one flat float32 vector; pixels (uint8 images) are left as they are."""

    def __init__(self, env: Environment, task: str) -> None:
        RecordConstructorArgs.__init__(self, task=task)
        super().__init__(env)
        inner = env.observation_space
        self._task = task
        self._pixels = isinstance(inner, spaces.Box) and inner.dtype == np.uint8 and len(inner.shape) >= 2
        if self._pixels:
            return
        if not inner.is_np_flattenable:
            raise TaskError(f"task {task!r} has observations {inner}, which can't be flattened to a vector")
        self._inner = inner
        flat = spaces.flatten_space(inner)
        assert isinstance(flat, spaces.Box)
        self.observation_space = spaces.Box(
            flat.low.astype(np.float32), flat.high.astype(np.float32), flat.shape, np.float32
        )

    def observation(self, observation: Any) -> NDArray[Any]:
        """The flat observation.

        Raises:
            TaskError: for one that is not what the space says, or not finite.
        """
        if self._pixels:
            return observation
        flat = np.asarray(spaces.flatten(self._inner, observation), np.float32)
        if flat.shape != self.observation_space.shape:
            raise TaskError(
                f"task {self._task!r} gave an observation of shape {flat.shape}; its observation space has "
                f"{self.observation_space.shape}"
            )
        # In the middle of an episode StabilityGuard sees to this.
        if not np.isfinite(flat).all():
            raise TaskError(f"task {self._task!r} begins an episode with NaN or infinity in its observation")
        return flat


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """One decision lasts several environment steps; their rewards are summed."""

    def __init__(self, env: Environment, repeat: int) -> None:
        RecordConstructorArgs.__init__(self, repeat=repeat)
        super().__init__(env)
        self.repeat = repeat

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeats the action until the decision, or the episode, is over."""
        total = 0.0
        for _ in range(self.repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, bool(terminated), bool(truncated), info


class TaskInfo(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Carries the task, and the seed of the first episode.

    Attributes:
        task: what is being played.
    """

    def __init__(self, env: Environment, task: Task, seed: int | None) -> None:
        RecordConstructorArgs.__init__(self, task=task, seed=seed)
        super().__init__(env)
        self.task = task
        self._first_seed = seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; the first one without a seed of its own takes the one given to `make`."""
        if seed is None:
            seed, self._first_seed = self._first_seed, None
        return self.env.reset(seed=seed, options=options)
