"""Worlds: task names, one contract for all environments, rendering without a display.

env = envs.make("walker-walk", seed=0)
observation, info = env.reset()
"""

from envs.quiet import import_mujoco

import_mujoco()  # before any module that needs it

from envs.angles import winding_angles
from envs.errors import RenderError, TaskError
from envs.make import make
from envs.physics import decision_seconds
from envs.rendering import choose_backend, render_speed
from envs.tasks import Task, find, tasks

__all__ = [
    "RenderError",
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
