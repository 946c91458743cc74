"""What rewards are computed from: the environment steps of many rollouts at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Place(NamedTuple):
    """Where something is, or how it is turned: a sensor that is added to a model, for rollouts return no poses."""

    what: mujoco.mjtSensor
    kind: mujoco.mjtObj
    name: str


def position(kind: str, name: str) -> Place:
    """The position of a `body` (its frame), `inertia` (a body's centre of mass), `geom` or `site`."""
    return Place(mujoco.mjtSensor.mjSENS_FRAMEPOS, _KINDS[kind], name)


def axis(letter: str, kind: str, name: str) -> Place:
    """A column of the rotation matrix of a `body`, `geom` or `site`: where its `x`, `y` or `z` axis points."""
    return Place(_AXES[letter], _KINDS[kind], name)


_KINDS = {
    "body": mujoco.mjtObj.mjOBJ_XBODY,
    "inertia": mujoco.mjtObj.mjOBJ_BODY,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "site": mujoco.mjtObj.mjOBJ_SITE,
}
_AXES = {
    "x": mujoco.mjtSensor.mjSENS_FRAMEXAXIS,
    "y": mujoco.mjtSensor.mjSENS_FRAMEYAXIS,
    "z": mujoco.mjtSensor.mjSENS_FRAMEZAXIS,
}


def with_sensors(spec: mujoco.MjSpec, places: tuple[Place, ...]) -> mujoco.MjModel:
    """The model of a specification, with sensors added after its own."""
    for i, place in enumerate(places):
        spec.add_sensor(name=f"preplay {i}", type=place.what, objtype=place.kind, objname=place.name)
    return spec.compile()


class Sensors:
    """Where a model's readings lie in its sensor data.

    Attributes:
        late: for each reading, whether it is computed with the accelerations, as forces are.
    """

    def __init__(self, model: mujoco.MjModel, places: tuple[Place, ...] = ()) -> None:
        self._slices: dict[str | Place, slice] = {}
        self.late = np.zeros(model.nsensordata, bool)
        first_added = model.nsensor - len(places)
        for i in range(model.nsensor):
            key = places[i - first_added] if i >= first_added else model.sensor(i).name
            where = slice(int(model.sensor_adr[i]), int(model.sensor_adr[i] + model.sensor_dim[i]))
            self._slices[key] = where
            self.late[where] = model.sensor_needstage[i] == mujoco.mjtStage.mjSTAGE_ACC

    def __getitem__(self, key: str | Place) -> slice:
        return self._slices[key]


@dataclass(frozen=True)
class Steps:
    """J environment steps of M rollouts.

    Attributes:
        model: the model they ran on.
        sensors: where its readings lie.
        start: (M, S) the full physics state they began in.
        states: (M, J, S) the full physics state after each step.
        ctrl: (M, J, U) the controls of each step.
        action: (M, J, A) the same as the environment got them, in its own type.
        readings: (M, J, R) sensor data as the environment sees it after each step; R is 0 where none was asked for.
        late_readings: (M, J, R) the same for sensors that are computed with the accelerations.
    """

    model: mujoco.MjModel
    sensors: Sensors
    start: Array
    states: Array
    ctrl: Array
    action: Array
    readings: Array
    late_readings: Array

    @property
    def time(self) -> Array:
        """(M, J) seconds."""
        return self.states[..., 0]

    @property
    def qpos(self) -> Array:
        """(M, J, nq) positions after each step."""
        return self.states[..., 1 : 1 + self.model.nq]

    @property
    def qvel(self) -> Array:
        """(M, J, nv) velocities after each step."""
        return self.states[..., 1 + self.model.nq : 1 + self.model.nq + self.model.nv]

    @cached_property
    def qpos_before(self) -> Array:
        """(M, J, nq) positions before each step."""
        return np.concatenate((self.start[:, None, 1 : 1 + self.model.nq], self.qpos[:, :-1]), axis=1)

    def sensor(self, key: str | Place) -> Array:
        """(M, J, D) the readings of a sensor, by name, or of an added one."""
        where = self.sensors[key]
        return (self.late_readings if self.sensors.late[where.start] else self.readings)[..., where]

    def sensordata(self) -> Array:
        """(M, J, R) all readings as the environment sees them."""
        return np.where(self.sensors.late, self.late_readings, self.readings)

    def last(self) -> "Steps":
        """The last step alone, copied out of the buffers that the rollouts share."""
        start = (self.states[:, -2] if self.states.shape[1] > 1 else self.start).copy()
        arrays = (self.states, self.ctrl, self.action, self.readings, self.late_readings)
        return Steps(self.model, self.sensors, start, *(x[:, -1:].copy() for x in arrays))


@dataclass(frozen=True)
class Reward:
    """A task's reward as a function of states, controls and sensors, for many steps at once.

    Attributes:
        of: the reward (M, J) of each step.
        places: sensors that have to be added for it.
        ends: whether the episode terminates with each step (M, J); None where it never does.
        observe: the observation (M, J, O) after each step; None where the environment itself has to be asked.
    """

    of: Callable[[Steps], Array]
    places: tuple[Place, ...] = ()
    ends: Callable[[Steps], Array] | None = None
    observe: Callable[[Steps], Array] | None = None
