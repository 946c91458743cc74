"""Planners by name."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from planners.errors import PlannerError, nearest
from planners.planner import Planner

P = TypeVar("P", bound=type[Planner])
_planners: dict[str, type[Planner]] = {}


def register(name: str) -> Callable[[P], P]:
    """Class decorator that makes a planner known as `name`; the tests hold it to the promises of `Planner.plan`."""

    def add(cls: P) -> P:
        if name in _planners:
            raise PlannerError(f"a planner named {name!r} is already registered")
        _planners[name] = cls
        return cls

    return add


def names() -> list[str]:
    """The names that `make` knows, in alphabetical order: ours, those registered, and installed plugins'."""
    return sorted(_planners.keys() | _plugins().keys())


def get(name: str) -> type[Planner]:
    """The class of the planner named `name`.

    Raises:
        PlannerError: when there is none.
    """
    if name not in _planners and name in _plugins():
        _load(_plugins()[name])
    if name not in _planners:
        raise PlannerError(f"unknown planner {name!r}; {nearest(name, names())}")
    return _planners[name]


@cache
def _plugins() -> dict[str, EntryPoint]:
    """What installed packages offer under the entry-point group `preplay.planners`; ours come first."""
    return {plugin.name: plugin for plugin in entry_points(group="preplay.planners")}


def _load(plugin: EntryPoint) -> None:
    try:
        found = plugin.load()
    except Exception as error:  # whatever a plugin does
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PlannerError(f"the planner {plugin.name!r} of {plugin.value} can't be loaded: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, Planner)):
        raise PlannerError(f"the planner {plugin.name!r} of {plugin.value} is {found!r}; expected a Planner class")
    _planners.setdefault(plugin.name, found)  # it may have registered itself while it was imported


def make(name: str, *, horizon: int, action_dim: int, **knobs: Any) -> Planner:
    """A planner by name.

    Args:
        name: one of `names()`.
        horizon: decisions looked ahead.
        action_dim: elements of one action.
        knobs: other fields of the planner's `Config`; an unknown one is an error.

    Raises:
        PlannerError: for an unknown name or knob, or a value that makes no sense.
    """
    cls = get(name)
    known = [field.name for field in fields(cls.Config)]
    for knob in knobs:
        if knob not in known:
            raise PlannerError(f"planner {name!r} has no option {knob!r}; {nearest(knob, known)}")
    return cls(cls.Config(horizon=horizon, action_dim=action_dim, **knobs))
