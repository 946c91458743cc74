"""What an episode changed inside a MuJoCo model: targets, gains, terrain."""

from collections.abc import Iterator, Mapping
from typing import Any

import mujoco
import numpy as np

Changes = Mapping[str, Any]
"""New values of a model's fields, by name."""

# How a world looks, and search trees over meshes that no task edits: large, and without effect on what happens.
_LOOKS = ("bvh_", "light_", "mat_", "mesh_", "name_", "names", "skin_", "tex_", "text_")


class Baseline:
    """A model's fields as they were when it was loaded."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._values = {name: np.array(value) for name, value in _fields(model)}
        self._bytes = {name: value.tobytes() for name, value in self._values.items()}

    def changes(self, model: mujoco.MjModel) -> dict[str, Any]:
        """The fields that have other values in another model of the same kind."""
        found = {}
        for name, value in _fields(model):
            array = np.asarray(value)
            if array.tobytes() != self._bytes.get(name):
                found[name] = np.array(array)
        return found

    def same_but_sensors(self, model: mujoco.MjModel) -> bool:
        """Whether a model is the one that was loaded, apart from its sensors."""
        return all(name.startswith("sensor_") for name in self.changes(model))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def alike(self, changes: Changes) -> bool:
        """Whether these are changes of a model with as many bodies, joints and so on."""
        return all(value.shape == self._values[name].shape for name, value in changes.items())


class ChangingModel:
    """A model that takes on what others of its kind went through.

    Attributes:
        model: the model; its fields are written in place.
    """

    def __init__(self, model: mujoco.MjModel, baseline: Baseline) -> None:
        self.model = model
        self._baseline = baseline
        # Those that were added stay as they are.
        self._taken = {name for name in baseline.changes(model) if not name.startswith("sensor_")}

    def take(self, changes: Changes) -> None:
        """Makes the model the loaded one with these changes."""
        for name in self._taken - changes.keys():
            self._write(name, self._baseline[name])
        for name, value in changes.items():
            self._write(name, value)
        self._taken = set(changes)

    def _write(self, name: str, value: Any) -> None:
        group, dot, field = name.rpartition(".")
        owner = getattr(self.model, group) if dot else self.model
        present = getattr(owner, field)
        if isinstance(present, np.ndarray):
            present[: len(value)] = value  # sensors may have been added after those that a task knows
        else:
            setattr(owner, field, value.item())


def same(first: Changes, second: Changes) -> bool:
    """Whether two models went through the same."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def _fields(model: mujoco.MjModel) -> Iterator[tuple[str, Any]]:
    for name in _ARRAYS:
        yield name, getattr(model, name)
    for group, names in (("opt", _OPTIONS), ("stat", _STATISTICS)):
        owner = getattr(model, group)
        for name in names:
            yield f"{group}.{name}", getattr(owner, name)


def _names(owner: Any, kinds: tuple[type, ...]) -> list[str]:
    return [n for n in dir(owner) if not n.startswith("_") and isinstance(getattr(owner, n), kinds)]


_EMPTY = mujoco.MjModel.from_xml_string("<mujoco/>")
_ARRAYS = [name for name in _names(_EMPTY, (np.ndarray,)) if not name.startswith(_LOOKS)]
_OPTIONS = _names(_EMPTY.opt, (np.ndarray, int, float))
_STATISTICS = _names(_EMPTY.stat, (np.ndarray, int, float))
