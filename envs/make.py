"""Making an environment that keeps the contract."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium

from envs.errors import TaskError
from envs.quiet import import_shimmy, import_suite, without_renderer
from envs.rendering import Rendered
from envs.stability import StabilityGuard
from envs.tasks import DMCONTROL, Task, find
from envs.wrappers import ActionRepeat, FlatObservations, NormalizedActions, TaskInfo


def make(
    task: str,
    *,
    seed: int | None = None,
    action_repeat: int | None = None,
    render_mode: str | None = None,
    width: int = 320,
    height: int = 240,
    max_episode_steps: int | None = None,
) -> gymnasium.Env[Any, Any]:
    """An environment under preplay's contract.

    Observations are flat float32 vectors (pixels stay as they are), actions lie in [-1, 1] and are clipped and
    rescaled inside, `terminated` and `truncated` are kept apart, and `info["unstable"]` says that the physics diverged.
    `env.get_wrapper_attr("task")` is the `Task`, `env.get_wrapper_attr("true_action_space")` has the true bounds.

    Args:
        task: a suite task (`walker-walk`), a Gymnasium id (`Hopper-v5`), or `module:Id`.
        seed: of the first episode that is reset without one.
        action_repeat: environment steps of one decision; by default 2 for DMControl and 1 for Gymnasium.
        render_mode: `rgb_array`, or None for no rendering.
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        max_episode_steps: environment steps of a full episode, where it should differ from the task's own.

    Raises:
        TaskError: for an unknown task, or one that can't be put under the contract.
        RenderError: when rendering is asked for and no backend works.
    """
    found = find(task)
    for name, value in {"action_repeat": action_repeat, "max_episode_steps": max_episode_steps}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise TaskError(f"{name} is {value!r}; it must be a whole number of 1 or more")
    if render_mode not in (None, "rgb_array"):
        raise TaskError(f"render_mode is {render_mode!r}; there are: 'rgb_array' and None")
    if action_repeat is not None:
        found = replace(found, action_repeat=action_repeat)
    if max_episode_steps is not None:
        found = replace(found, max_episode_steps=max_episode_steps)
    env = _suite(found, max_episode_steps) if found.family == DMCONTROL else _gymnasium(found)
    env = StabilityGuard(env)
    env = NormalizedActions(env, found.name)
    env = FlatObservations(env, found.name)
    env = ActionRepeat(env, found.action_repeat)
    if render_mode is not None:
        env = Rendered(env, width, height)
    return TaskInfo(env, found, seed)


def _suite(task: Task, max_episode_steps: int | None) -> gymnasium.Env[Any, Any]:
    wrapper = import_shimmy()
    domain, name = task.id.split("/")
    other = {} if max_episode_steps is None else {"time_limit": float("inf")}
    env = import_suite().load(domain, name, task_kwargs=other)
    without_renderer(env.physics)
    return wrapper(env) if max_episode_steps is None else gymnasium.wrappers.TimeLimit(wrapper(env), max_episode_steps)


def _gymnasium(task: Task) -> gymnasium.Env[Any, Any]:
    with warnings.catch_warnings():
        # That a newer version of a task exists is no news to someone who asked for this one.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*is out of date.*")
        try:
            return gymnasium.make(task.id, max_episode_steps=task.max_episode_steps, disable_env_checker=True)
        except Exception as error:  # whatever a user's environment does
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise TaskError(f"task {task.name!r} can't be made: {reason}") from error
