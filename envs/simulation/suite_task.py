"""dm_control's own reward and observation code, run on one state after the other."""

from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.simulation.attributes import plain_attributes, restore
from envs.simulation.copies import chain
from envs.simulation.model import Baseline, ChangingModel
from envs.simulation.state import SimulatorState
from envs.simulation.steps import Array, Steps
from envs.wrappers import FlatObservations


class SuiteTask:
    """A private physics into which states are written, for dm_control's task to look at.

    Args:
        env: an environment of `envs.make`, for nobody else's use.
        baseline: its model as it was loaded.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], baseline: Baseline) -> None:
        self.env = env
        inner: Any = env.unwrapped
        self.task = inner._env.task
        self._physics = inner._env.physics
        self._model = ChangingModel(self._physics.model.ptr, baseline)
        self._flat = next(layer for layer in chain(env) if isinstance(layer, FlatObservations))

    @staticmethod
    def memory(env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
        """What a live environment's task remembers."""
        inner: Any = env.unwrapped
        # No task of the suite draws a number after its reset.
        return [{k: v for k, v in plain_attributes(inner._env.task).items() if k != "_random"}]

    def take(self, state: SimulatorState) -> None:
        """Makes the private model and task those of a state."""
        self._model.take(state.changes)
        restore(self.task, state.memory[0])

    def rewards(self, steps: Steps) -> tuple[Array, Array]:
        """The reward (M, J) of each step, and whether the episode terminates with it."""
        rewards = np.zeros(steps.time.shape)
        ends = np.zeros(steps.time.shape, bool)
        sensordata = steps.sensordata()
        for row in np.ndindex(rewards.shape):
            self._show(steps, sensordata, row)
            rewards[row] = self.task.get_reward(self._physics)
            ends[row] = self.task.get_termination(self._physics) is not None
        return rewards, ends

    def observe(self, steps: Steps) -> Array:
        """The flat observation (M, J, O) after each step, float32."""
        from shimmy.utils.dm_env import dm_obs2gym_obs

        sensordata = steps.sensordata()
        shape = self.env.observation_space.shape
        assert shape is not None
        seen = np.zeros((*steps.time.shape, *shape), np.float32)
        for row in np.ndindex(steps.time.shape):
            self._show(steps, sensordata, row)
            seen[row] = self._flat.observation(dm_obs2gym_obs(self.task.get_observation(self._physics)))
        return seen

    def _show(self, steps: Steps, sensordata: Array, row: tuple[int, ...]) -> None:
        """Writes a state into the physics: what dm_control's step leaves behind, without the step."""
        model, data = self._physics.model.ptr, self._physics.data.ptr
        full = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
        mujoco.mj_setState(model, data, np.ascontiguousarray(steps.states[row]), full)
        data.ctrl[:] = steps.ctrl[row]
        mujoco.mj_step1(model, data)
        # Sensors of forces belong to the step that led here; the rollout measured them. Added ones come last.
        data.sensordata[:] = sensordata[row][: model.nsensordata]
