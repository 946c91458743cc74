"""Tasks by name: the DeepMind Control suite's continuous tasks, and every Gymnasium id."""

import difflib
import functools
import importlib
import re
from dataclasses import dataclass

import gymnasium

from envs.errors import TaskError
from envs.quiet import import_suite

DMCONTROL, GYMNASIUM = "dmcontrol", "gymnasium"

# Gymnasium's own MuJoCo tasks, and whether they can end before their time limit.
_GYMNASIUM_TASKS = {
    "Ant-v5": True,
    "HalfCheetah-v5": False,
    "Hopper-v5": True,
    "Humanoid-v5": True,
    "HumanoidStandup-v5": False,
    "InvertedDoublePendulum-v5": True,
    "InvertedPendulum-v5": True,
    "Pusher-v5": False,
    "Reacher-v5": False,
    "Swimmer-v5": False,
    "Walker2d-v5": True,
}
# The suite's only domain whose tasks end an episode with discount 0, and the only one without a time limit.
_ENDING_DOMAIN = "lqr"
# All other suite tasks last a thousand control steps.
_SUITE_STEPS = 1000
# Published results call these domains by a shorter name.
_SHORT_DOMAINS = {"ball_in_cup": "cup"}


@dataclass(frozen=True)
class Task:
    """A task, by the name that commands take.

    Attributes:
        name: such as `walker-walk` or `Hopper-v5`.
        family: `dmcontrol` or `gymnasium`.
        id: what the family calls it: `domain/task`, or the Gymnasium id.
        action_repeat: environment steps that one decision lasts.
        max_episode_steps: environment steps of a full episode; None where there is no limit.
        can_terminate: whether an episode can end by termination (None known: True).
    """

    name: str
    family: str
    id: str
    action_repeat: int
    max_episode_steps: int | None
    can_terminate: bool

    @property
    def decisions(self) -> int | None:
        """Decisions of a full episode; None where there is no limit."""
        return None if self.max_episode_steps is None else -(-self.max_episode_steps // self.action_repeat)


def tasks() -> list[Task]:
    """All tasks that are known by name: the suite's, then Gymnasium's. Any other Gymnasium id will do as well."""
    return [*_suite_tasks().values(), *(_gymnasium_task(name) for name in _GYMNASIUM_TASKS)]


def find(task: str) -> Task:
    """The task of that name.

    Args:
        task: a suite task (`walker-walk`, `ball_in_cup-catch`), a Gymnasium id, or `module:Id`.

    Raises:
        TaskError: when there is none; it names the nearest.
    """
    name = task.strip().lower().replace("_", "-")
    suite = _suite_tasks()
    if name in suite:
        return suite[name]
    for domain, short in _SHORT_DOMAINS.items():
        long = domain.replace("_", "-") + "-"
        if name.startswith(long) and (candidate := f"{short}-{name.removeprefix(long)}") in suite:
            return suite[candidate]
    if ":" in task or re.search(r"-v\d+$", task):
        return _gymnasium_task(task)
    raise TaskError(f"unknown task {task!r}; {_nearest(task)}")


@functools.cache
def _suite_tasks() -> dict[str, Task]:
    found = {}
    for domain, task in import_suite().ALL_TASKS:
        name = f"{_SHORT_DOMAINS.get(domain, domain)}-{task}".lower().replace("_", "-")
        ends = domain == _ENDING_DOMAIN
        found[name] = Task(name, DMCONTROL, f"{domain}/{task}", 2, None if ends else _SUITE_STEPS, ends)
    return found


def _gymnasium_task(name: str) -> Task:
    module, colon, identifier = name.partition(":")
    if colon:
        if not all(part.isidentifier() for part in module.split(".")):
            raise TaskError(f"task {name!r} names {module!r}, which is no module; expected module:Id")
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a user's module does
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise TaskError(f"task {name!r} names the module {module!r}, which can't be imported: {reason}") from error
    else:
        identifier = name
    try:
        spec = gymnasium.spec(identifier)
    except gymnasium.error.Error:
        raise TaskError(f"unknown task {name!r}; {_nearest(name)}") from None
    return Task(name, GYMNASIUM, identifier, 1, spec.max_episode_steps, _GYMNASIUM_TASKS.get(identifier, True))


def _nearest(word: str) -> str:
    known = [*_suite_tasks(), *_GYMNASIUM_TASKS]
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), lowered, n=3, cutoff=0.5)
    advice = "see them all with: preplay tasks"
    return f"nearest: {', '.join(lowered[name] for name in near)}; {advice}" if near else advice
