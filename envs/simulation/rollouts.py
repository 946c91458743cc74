"""MuJoCo's own threaded rollouts, cut into environment steps."""

from collections.abc import Iterator

import mujoco
import mujoco.rollout
import numpy as np

from envs.simulation.steps import Array, Sensors, Steps

# Rollouts are made in portions whose outputs take about as much memory as this, in bytes.
_PORTION = 64 * 2**20


class Rollouts:
    """Rolls candidates out from given states, several at a time.

    Args:
        model: what is simulated; it may be changed between calls.
        sensors: where its readings lie.
        substeps: physics steps of one environment step.
        threads: rollouts that run at once.
        reads: whether sensor data are wanted.
        up_to_date: whether the environment sees positions and sensors of the state it is in, as dm_control's do;
            if not, it sees those of one physics step before, as Gymnasium's do.
    """

    def __init__(
        self, model: mujoco.MjModel, sensors: Sensors, substeps: int, threads: int, *, reads: bool, up_to_date: bool
    ) -> None:
        self._model, self._sensors, self._substeps = model, sensors, substeps
        self._reads, self._up_to_date = reads and model.nsensordata > 0, up_to_date
        self._rollout = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._state_size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        self._buffers: dict[str, Array] = {}

    def roll(self, start: Array, warmstart: Array, action: Array, repeat: int) -> Iterator[tuple[slice, Steps]]:
        """The environment steps of M rollouts, in portions whose arrays are used again for the next.

        Args:
            start: (M, S) full physics states.
            warmstart: (M, nv) accelerations that the solver begins with; with them rollouts are bit-exact.
            action: (M, H, A) the environment's own actions.
            repeat: environment steps of each action.
        """
        decisions = action.shape[1]
        # Sensor data belong to the state before a step, so those of the last state take one step more.
        length = decisions * repeat * self._substeps + (self._reads and self._up_to_date)
        row = self._state_size + self._model.nu + (self._model.nsensordata if self._reads else 0)
        portion = max(len(self._data), _PORTION // (8 * row * length))
        for first in range(0, len(start), portion):
            part = slice(first, min(first + portion, len(start)))
            yield part, self._roll(start[part], warmstart[part], action[part], repeat, length)

    def _roll(self, start: Array, warmstart: Array, action: Array, repeat: int, length: int) -> Steps:
        rows, decisions, width = action.shape
        states = self._buffer("states", rows, length, self._state_size)
        control = self._buffer("control", rows, length, width)
        readings = self._buffer("readings", rows, length, self._model.nsensordata) if self._reads else None
        steps = decisions * repeat
        n = steps * self._substeps
        control[:, :n].reshape(rows, decisions, -1, width)[...] = action[:, :, None]
        control[:, n:] = action[:, -1:]
        self._rollout.rollout(
            [self._model] * rows,
            self._data,
            np.ascontiguousarray(start),
            control,
            skip_checks=True,
            nstep=length,
            initial_warmstart=np.ascontiguousarray(warmstart),
            state=states,
            sensordata=readings,
        )
        last_of_each = slice(self._substeps - 1, n, self._substeps)
        if readings is None:
            readings = np.empty((rows, n + 1, 0))
        return Steps(
            model=self._model,
            sensors=self._sensors,
            start=start,
            states=states[:, last_of_each],
            ctrl=control[:, last_of_each],
            action=np.repeat(action, repeat, axis=1),
            readings=readings[:, self._substeps :: self._substeps] if self._up_to_date else readings[:, last_of_each],
            late_readings=readings[:, last_of_each],
        )

    def sound(self, steps: Steps) -> Array:
        """(M, J) whether the physics has stayed sound up to and with each step.

        A simulation that diverges is reset by MuJoCo, its clock included, and rolls no further: time stands still.
        """
        passed = np.diff(steps.time, axis=1, prepend=steps.start[:, :1])
        sound = passed > (self._substeps - 0.5) * self._model.opt.timestep
        if self._up_to_date:
            # dm_control looks at the state that a step arrives in; a rollout would do so with the next step only.
            moving = steps.states[..., 1 : 1 + self._model.nq + self._model.nv]
            sound &= (np.abs(moving) <= mujoco.mjMAXVAL).all(-1)
        return np.logical_and.accumulate(sound, axis=1)

    def _buffer(self, name: str, *shape: int) -> Array:
        size = int(np.prod(shape))
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size)
        return self._buffers[name][:size].reshape(shape)

    def close(self) -> None:
        """Ends the threads and lets go of the buffers."""
        self._rollout.close()
        self._buffers.clear()
