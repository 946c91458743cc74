"""Stage-one worlds, until the full room lands: same contract for plain DMControl and Gymnasium MuJoCo tasks."""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers


class TaskError(ValueError):
    pass


class RenderError(RuntimeError):
    pass


@dataclass(frozen=True)
class Task:
    name: str
    family: str
    id: str
    action_repeat: int
    max_episode_steps: int | None
    can_terminate: bool

    @property
    def decisions(self) -> int | None:
        return None if self.max_episode_steps is None else -(-self.max_episode_steps // self.action_repeat)


def find(name: str) -> Task:
    if "-v" in name:
        return Task(name, "gymnasium", name, 1, 1000, "HalfCheetah" not in name)
    return Task(name, "dmcontrol", name, 2, 1000, False)


class _Contract(gymnasium.Wrapper):
    def __init__(self, env: Any, task: Task) -> None:
        super().__init__(env)
        self.task = task
        self.inner = env.action_space
        self.action_space = spaces.Box(-1, 1, env.action_space.shape, np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return observation.astype(np.float32), info | {"unstable": False}

    def step(self, action: Any) -> Any:
        low, high = self.inner.low, self.inner.high
        action = low + (np.clip(action, -1, 1) + 1) / 2 * (high - low)
        total = 0.0
        for _ in range(self.task.action_repeat):
            observation, reward, terminated, truncated, info = self.env.step(action.astype(self.inner.dtype))
            total += float(reward)
            if terminated or truncated:
                break
        return observation.astype(np.float32), total, terminated, truncated, info | {"unstable": False}


def make(name: str, *, seed: int | None = None, action_repeat: int | None = None, **_: Any) -> gymnasium.Env:
    task = find(name)
    if action_repeat:
        task = replace(task, action_repeat=action_repeat)
    if task.family == "dmcontrol":
        import dm_control.suite
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0

        domain, _, rest = name.partition("-")
        env: Any = DmControlCompatibilityV0(dm_control.suite.load(domain, rest.replace("-", "_")))
    else:
        env = gymnasium.make(name)
    if not isinstance(env.observation_space, spaces.Box):
        env = wrappers.FlattenObservation(env)
    return _Contract(env, task)
