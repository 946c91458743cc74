"""Finding tasks by name."""

import pytest

import envs
from envs import TaskError


def test_all_continuous_tasks_of_the_suite_and_gymnasium_are_listed():
    names = [task.name for task in envs.tasks()]
    assert len(names) == len(set(names))
    assert {"walker-walk", "cup-catch", "cartpole-swingup-sparse", "Hopper-v5", "dog-run"} <= set(names)
    assert len([name for name in names if not name.endswith("-v5")]) >= 50


@pytest.mark.parametrize(
    ("given", "id"),
    [
        ("walker-walk", "walker/walk"),
        ("Walker_Walk", "walker/walk"),
        (" walker-walk ", "walker/walk"),
        ("cup-catch", "ball_in_cup/catch"),
        ("ball_in_cup-catch", "ball_in_cup/catch"),
        ("cartpole-swingup-sparse", "cartpole/swingup_sparse"),
        ("humanoid_CMU-run", "humanoid_CMU/run"),
        ("point_mass-easy", "point_mass/easy"),
        ("Hopper-v5", "Hopper-v5"),
        ("tests.envs.own:Own-v0", "Own-v0"),
    ],
)
def test_tasks_are_found_by_the_names_people_use(given, id):
    assert envs.find(given).id == id


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("walker-wlak", "walker-walk"),
        ("cartpole", "cartpole-"),
        ("Hoper-v5", "Hopper-v5"),
        ("Hopper-v99", "Hopper-v5"),
        ("zzzz", "preplay tasks"),
        ("", "preplay tasks"),
        ("no_such_module:Task-v0", "can't be imported"),
        ("tests.envs.own:Missing-v0", "unknown task"),
    ],
)
def test_an_unknown_task_is_answered_with_the_nearest(given, said):
    with pytest.raises(TaskError, match=said) as error:
        envs.make(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", ["CartPole-v1", "tests.envs.own:Unbounded-v0"])
def test_a_task_outside_the_contract_is_refused(task):
    with pytest.raises(TaskError, match="actions"):
        envs.make(task)


@pytest.mark.parametrize("option", [{"action_repeat": 0}, {"action_repeat": 1.5}, {"max_episode_steps": -1}])
def test_an_option_that_makes_no_sense_is_refused(option):
    with pytest.raises(TaskError, match="whole number"):
        envs.make("walker-walk", **option)


def test_another_render_mode_is_refused():
    with pytest.raises(TaskError, match="render_mode"):
        envs.make("walker-walk", render_mode="human")


def test_only_tasks_that_can_end_early_are_said_to():
    ending = {task.name for task in envs.tasks() if task.can_terminate}
    assert {"Hopper-v5", "Walker2d-v5", "Ant-v5", "lqr-lqr-2-1"} <= ending
    assert not {"walker-walk", "HalfCheetah-v5", "cup-catch"} & ending
