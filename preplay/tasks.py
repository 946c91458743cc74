"""`preplay tasks`."""

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

import envs
from preplay.output import print_object
from preplay.shipped import shipped


@dataclass(frozen=True)
class Tasks:
    """List the tasks that are known by name, and the agents that ship.

    Any other Gymnasium id with continuous actions works as well (module:Id imports the module first).
    """

    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Lists."""
        agents = shipped()
        known = envs.tasks()
        if self.json:
            rows = [
                asdict(task) | {"checkpoint": str(agents[task.name]) if task.name in agents else None} for task in known
            ]
            print_object({"tasks": rows})
            return
        table = Table(box=None, pad_edge=False)
        for name in ("task", "family", "repeat", "steps", "can end early", "agent"):
            table.add_column(name, no_wrap=True)
        for task in known:
            table.add_row(
                task.name,
                task.family,
                str(task.action_repeat),
                str(task.max_episode_steps or "no limit"),
                "yes" if task.can_terminate else "",
                "ships" if task.name in agents else "",
            )
        console = Console()
        console.print(table)
        console.print("\nrepeat: environment steps of a decision; steps: environment steps of a full episode.")
        console.print(f"These {len(known)}, and any other Gymnasium id with continuous actions, or module:Id.")
