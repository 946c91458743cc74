"""Worlds: task names, one contract for all environments, rendering without a display.

env = envs.make("walker-walk", seed=0)
observation, info = env.reset()
"""

from typing import TYPE_CHECKING, Any

from envs.quiet import import_mujoco

import_mujoco()  # before any module that needs it

from envs.angles import winding_angles
from envs.errors import RenderError, TaskError
from envs.make import make
from envs.physics import decision_seconds
from envs.rendering import choose_backend, render_speed
from envs.tasks import Task, find, tasks

__all__ = [
    "Imagined",
    "RenderError",
    "Simulator",
    "SimulatorState",
    "Task",
    "TaskError",
    "choose_backend",
    "decision_seconds",
    "find",
    "make",
    "render_speed",
    "tasks",
    "winding_angles",
]

if TYPE_CHECKING:
    from envs.simulator import Imagined, Simulator, SimulatorState


def __getattr__(name: str) -> Any:
    # The simulator speaks torch, which takes a second to import; making an environment doesn't need it.
    if name in ("Imagined", "Simulator", "SimulatorState"):
        from envs import simulator

        return getattr(simulator, name)
    raise AttributeError(f"module 'envs' has no attribute {name!r}")
