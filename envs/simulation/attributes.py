"""The plain Python attributes of an object: what an environment or a task remembers besides its physics."""

import copy
from collections import deque
from typing import Any

import numpy as np

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_RANDOM = (np.random.Generator, np.random.RandomState)


def plain_attributes(owner: Any) -> dict[str, Any]:
    """Copies of an object's numbers, texts, arrays, random generators and containers of those, by name."""
    return {name: copy.deepcopy(value) for name, value in vars(owner).items() if _plain(value)}


def restore(owner: Any, attributes: dict[str, Any]) -> None:
    """Gives an object copies of those attributes."""
    for name, value in attributes.items():
        vars(owner)[name] = value if isinstance(value, _SCALARS) else copy.deepcopy(value)


def _plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype != object and not _foreign(value)
    if isinstance(value, dict):
        return all(_plain(key) and _plain(x) for key, x in value.items())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return all(_plain(x) for x in value)
    return isinstance(value, _SCALARS + _RANDOM)


def _foreign(array: Any) -> bool:
    """Whether an array looks into memory that isn't NumPy's, such as the simulation's: a copy would be cut off."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array is not None
