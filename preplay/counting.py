"""What a terminal shows while something is counted through."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from preplay.display import Display


class CountDisplay(Display):
    """A live line on standard error, where that is a terminal.

    Args:
        what: is being done.
        unit: what is counted.
        quiet: show nothing.
    """

    def __init__(self, what: str, unit: str, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._row = self._bar.add_task(what, total=1)

    def update(self, done: int, total: int) -> None:
        """So many are done of so many."""
        self._bar.update(self._row, completed=done, total=max(total, 1))
