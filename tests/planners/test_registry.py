"""Planners by name, and how somebody else's come among them."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

import planners
from planners import PlannerError, registry
from tests.planners.toy import Doubtful, Shrinking, bowl, seeded

GROUP = "preplay.planners"
OURS = ["cem", "cmaes", "gradient", "icem", "mppi", "predictive", "shooting"]


@pytest.fixture
def install(monkeypatch):
    """What installs plugins by their entry points, name=value, for one test."""
    monkeypatch.setattr(registry, "_planners", dict(registry._planners))

    def install(**plugins):
        entries = [EntryPoint(name, value, GROUP) for name, value in plugins.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == GROUP else [])
        registry._plugins.cache_clear()

    install()
    yield install
    registry._plugins.cache_clear()


def test_ours_are_known(install):
    assert planners.names() == OURS
    assert planners.get("cem") is planners.CEM


def test_a_decorated_class_is_known(install):
    assert planners.register("doubtful")(Doubtful) is Doubtful
    assert "doubtful" in planners.names()
    planner = planners.make("doubtful", horizon=2, action_dim=1, momentum=0.5)
    assert isinstance(planner, Doubtful)
    assert planner.plan(bowl(0.5), generator=seeded(0)).value > -0.1


def test_a_name_can_be_registered_once(install):
    with pytest.raises(PlannerError, match="'cem' is already registered"):
        planners.register("cem")(planners.CEM)
    assert planners.get("cem") is planners.CEM


def test_a_plugin_is_known_by_its_entry_point_and_loaded_when_asked_for(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_plugin", None)  # importing it would fail
    install(shrinking="a_plugin:Shrinking")
    assert planners.names() == sorted([*OURS, "shrinking"])
    module = ModuleType("a_plugin")
    module.Shrinking = Shrinking
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    planner = planners.make("shrinking", horizon=2, action_dim=1, factor=0.5)
    assert isinstance(planner, Shrinking)
    assert planner.config.factor == 0.5
    assert planner.plan(bowl(0.5), generator=seeded(0)).value > -0.05
    assert planners.get("shrinking") is Shrinking  # and again
    with pytest.raises(PlannerError, match="no option 'facto'; did you mean 'factor'"):
        planners.make("shrinking", horizon=2, action_dim=1, facto=0.5)


def test_a_plugin_may_register_itself_while_it_is_loaded(install, monkeypatch):
    module = ModuleType("a_plugin")
    module.__getattr__ = lambda name: planners.register("doubtful")(Doubtful)
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    install(doubtful="a_plugin:Doubtful")
    assert planners.get("doubtful") is Doubtful


def test_ours_come_before_plugins_of_the_same_name(install):
    install(cem="no_such_module_anywhere:X")  # nor are they even loaded
    assert planners.names() == OURS
    assert planners.get("cem") is planners.CEM


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module_anywhere:X", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("tests.planners.toy:Missing", "AttributeError: .*Missing"),
        ("tests.planners.toy:bowl", "expected a Planner class"),
        ("tests.planners.toy:ShrinkingConfig", "expected a Planner class"),
        ("a_plugin:X", "ZeroDivisionError: one line$"),
    ],
)
def test_a_broken_plugin_is_one_sentence_and_only_when_it_is_asked_for(install, monkeypatch, value, reason):
    def explode(name):
        raise ZeroDivisionError("one line\nand another")

    module = ModuleType("a_plugin")
    module.__getattr__ = explode
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    install(broken=value)
    assert "broken" in planners.names()
    planners.make("cem", horizon=1, action_dim=1)
    with pytest.raises(PlannerError, match="unknown planner 'brokem'; did you mean 'broken'"):
        planners.get("brokem")
    with pytest.raises(PlannerError, match=reason) as error:
        planners.get("broken")
    assert str(error.value).startswith(f"the planner 'broken' of {value} ")
    assert "\n" not in str(error.value)


def test_unknown_names_and_knobs_say_what_there_is(install):
    with pytest.raises(PlannerError, match="unknown planner 'mpi'; did you mean 'mppi'"):
        planners.make("mpi", horizon=1, action_dim=1)
    with pytest.raises(PlannerError, match="unknown planner 'zzz'; there are: cem, cmaes, gradient, icem"):
        planners.get("zzz")
    with pytest.raises(PlannerError, match="no option 'sample'; did you mean 'samples'"):
        planners.make("cem", horizon=1, action_dim=1, sample=3)
