"""A moment of an episode, from which a simulator can imagine what follows."""

from dataclasses import dataclass
from typing import Any

import mujoco

from envs.simulation.model import Changes
from envs.simulation.steps import Array
from envs.tasks import Task


@dataclass(frozen=True, eq=False)
class SimulatorState:
    """Everything about a moment that what follows depends on.

    Attributes:
        task: what is being played.
        physics: (S,) MuJoCo's full physics state: time, positions, velocities, activations.
        warmstart: (nv,) the accelerations that its solver will begin with.
        changes: fields of the model that differ from the model as it was loaded.
        memory: what the environment's Python objects remember, outermost first.
        data: a copy of the whole simulation, where exact copies are stepped; None elsewhere.
    """

    task: Task
    physics: Array
    warmstart: Array
    changes: Changes
    memory: list[dict[str, Any]]
    data: mujoco.MjData | None
