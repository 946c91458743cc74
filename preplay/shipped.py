"""The trained agents that come with preplay."""

from pathlib import Path

import envs
from agent import describe
from preplay.errors import UsageError

# In a checkout they lie beside the packages, in an installed wheel inside this one.
_FOLDERS = (Path(__file__).parent.parent / "checkpoints", Path(__file__).parent / "checkpoints")


def shipped() -> dict[str, Path]:
    """Task names, and the folders of the agents trained for them."""
    return {
        config.parent.name: config.parent
        for folder in reversed(_FOLDERS)
        for config in sorted(folder.glob("*/config.json"))
    }


def checkpoint_for(task: envs.Task, folder: Path | None) -> Path:
    """The checkpoint folder to play a task with: the given one, or the one that ships.

    Raises:
        UsageError: when the given one was made for another task, or none ships.
        agent.CheckpointError: when the given one is missing or damaged.
    """
    if folder is None:
        known = shipped()
        if task.name not in known:
            raise UsageError(
                f"no trained agent ships for {task.name!r}; train one with: preplay train {task.name}, "
                f"or give its folder with --checkpoint (shipped: {', '.join(known) or 'none'})"
            )
        return known[task.name]
    made_for = describe(folder)["task"]
    if made_for != task.name:
        raise UsageError(f"the checkpoint {str(folder)!r} was made for {made_for!r}, not for {task.name!r}")
    return folder
