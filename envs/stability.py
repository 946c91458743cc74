"""Noticing that the physics diverged."""

from copy import deepcopy
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from envs.physics import physics

# What MuJoCo counts when a state or a control stops being a number, or grows out of bounds.
_FATAL = [
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
    mujoco.mjtWarning.mjWARN_BADCTRL,
]


class StabilityGuard(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Sets `info["unstable"]`, and ends the episode cleanly when the physics diverged.

    MuJoCo resets a diverged simulation by itself and goes on as if nothing had happened, so its warning counters and
    its clock are looked at; dm_control raises an error instead. Either way the last good observation comes back with
    reward 0, `truncated` and not `terminated`: nobody should learn that diverging ends, or earns, anything.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._last_good: Any = None
        # Divergence makes NumPy and MuJoCo complain as well; it is reported once, by `unstable`.
        self._errors = _physics_errors()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._last_good = deepcopy(observation)  # an environment may go on to write into what it returned
        return observation, {**info, "unstable": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One environment step."""
        before = self._state()
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except self._errors:
            return self._diverged({})
        if self._unstable(before, observation, float(reward)):
            return self._diverged(info)
        self._last_good = deepcopy(observation)
        return observation, float(reward), bool(terminated), bool(truncated), {**info, "unstable": False}

    def _diverged(self, info: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._last_good, 0.0, False, True, {**info, "unstable": True}

    def _state(self) -> tuple[float, int] | None:
        found = physics(self.env)
        return None if found is None else (found[1].time, _warnings(found[1]))

    def _unstable(self, before: tuple[float, int] | None, observation: Any, reward: float) -> bool:
        after = self._state()
        if before is not None and after is not None and (after[1] > before[1] or after[0] <= before[0]):
            return True
        return not (_fits(reward) and _finite(self.env.observation_space, observation))


def _warnings(data: mujoco.MjData) -> int:
    return sum(int(data.warning[kind].number) for kind in _FATAL)


def _finite(space: spaces.Space[Any], observation: Any) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_finite(space[key], observation[key]) for key in space)
    if isinstance(space, spaces.Tuple):
        return all(_finite(part, x) for part, x in zip(space, observation, strict=True))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _fits(observation)
    return True


def _fits(values: Any) -> bool:
    """Whether all are finite in single precision, in which they are kept and learned from."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(values, np.float32)).all())


def _physics_errors() -> tuple[type[BaseException], ...]:
    from dm_control.rl.control import PhysicsError

    return (PhysicsError,)
