"""What is trained on: suites of tasks by name."""

from collections.abc import Iterable

import envs

# The tasks of the DeepMind Control suite on which methods still differ after 100,000 steps.
HARD_8 = (
    "acrobot-swingup",
    "cartpole-swingup-sparse",
    "cheetah-run",
    "finger-turn-hard",
    "hopper-hop",
    "quadruped-run",
    "reacher-hard",
    "walker-run",
)
SUITES: dict[str, tuple[str, ...]] = {
    "hard-8": HARD_8,
    # One that runs, one that has many joints, one that gets no reward until it arrives.
    "ablation-3": ("cheetah-run", "quadruped-run", "reacher-hard"),
}


def expand(names: Iterable[str]) -> list[str]:
    """The tasks that names and suite names stand for, each once.

    Raises:
        envs.TaskError: when there is no such task.
    """
    tasks = (task for name in names for task in SUITES.get(name, (name,)))
    return list(dict.fromkeys(envs.find(task).name for task in tasks))
