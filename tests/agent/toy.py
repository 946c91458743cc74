"""A world small enough to learn in seconds: push a point to the middle."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from agent import Agent, AgentInfo, preset


class Point(gymnasium.Env):
    """A point on a line, moved by the action; reward is high near the middle. Ends at the edge, if it can terminate."""

    def __init__(self, can_terminate: bool = False, length: int = 20) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.can_terminate, self.length = can_terminate, length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self._observe(), {"unstable": False}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.3 * float(action[0]), -1.5, 1.5))
        self.t += 1
        terminated = self.can_terminate and abs(self.x) > 1.4
        return self._observe(), float(np.exp(-4 * self.x**2)), terminated, self.t >= self.length, {"unstable": False}

    def _observe(self):
        return np.array([self.x, self.t / self.length], np.float32)


def shake(model: nn.Module, std: float = 0.3) -> Any:
    """Random weights throughout: heads begin at zero, where nothing that is done to them shows."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


def tiny_agent(observation_dim: int = 5, action_dim: int = 2, can_terminate: bool = True, task: str = "toy") -> Agent:
    """An untrained agent of the smallest preset."""
    return Agent(preset("tiny"), observation_dim, action_dim, AgentInfo(task, 1, 20, can_terminate), "cpu")
