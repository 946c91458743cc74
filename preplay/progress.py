"""What a terminal shows while training runs or episodes are played."""

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agent import Progress as TrainingProgress
from preplay.display import Display


class TrainingDisplay(Display):
    """A live line with return, steps per second, milliseconds a plan and the time left.

    On a terminal it is redrawn in place; in a log file a line is written every half minute. It goes to standard error,
    so that standard output stays free for results.

    Args:
        task: the name shown.
        quiet: show nothing.
    """

    LINE_EVERY = 30.0  # seconds, when standard error is not a terminal

    def __init__(self, task: str, quiet: bool = False) -> None:
        self.task, self.quiet = task, quiet
        console = Console(stderr=True)
        self._live = not quiet and console.is_terminal
        self._bar = _steps_bar(console, self._live)
        self._row = self._bar.add_task(task, total=None, text="")
        self._last_line = 0.0

    def update(self, progress: TrainingProgress) -> None:
        """Shows how far the run is."""
        if self.quiet:
            return
        text = describe(progress)
        self._bar.update(self._row, completed=progress.step, total=progress.steps, text=text)
        if not self._live and time.monotonic() - self._last_line > self.LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self.task} {progress.step}/{progress.steps} {text}", file=sys.stderr, flush=True)


class RunsDisplay(Display):
    """What `TrainingDisplay` is for one run, for many: a line of all together and, where they fit, one of each.

    In a log file only the line of all is written, and what is said of one. It may be told from any thread.

    Args:
        runs: their names, and how many environment steps each is to take.
        quiet: show nothing; what is said of a run is shown all the same.
    """

    def __init__(self, runs: Mapping[str, int], quiet: bool = False) -> None:
        self.names = names = list(runs)
        self._ended: set[int] = set()
        self._runs = [TrainingProgress(0, steps) for steps in runs.values()]
        self._console = Console(stderr=True, highlight=False)
        self._live, self._quiet = not quiet and self._console.is_terminal, quiet
        self._bar = _steps_bar(self._console, self._live)
        self._all = self._bar.add_task(self._title(), total=None, text="")
        each = len(names) + 2 <= self._console.height
        self._rows = [self._bar.add_task(name, total=None, text="") for name in names] if each else []
        self._lock, self._last_line = threading.Lock(), 0.0

    def update(self, number: int, progress: TrainingProgress) -> None:
        """Shows how far a run is."""
        if self._quiet:
            return
        with self._lock:
            self._runs[number] = replace(progress)
            if self._rows:
                text = describe(progress)
                self._bar.update(self._rows[number], completed=progress.step, total=progress.steps, text=text)
            self._show_all()

    def end(self, number: int, sentence: str, important: bool = False) -> None:
        """A run has ended; says how, unless that is unimportant and nothing is to be shown."""
        with self._lock:
            self._ended.add(number)
        if self._rows:
            self._bar.update(self._rows[number], text=sentence)
        if important or not (self._quiet or self._live):
            self.say(number, sentence)

    def say(self, number: int, sentence: str) -> None:
        """Says something of a run."""
        self._console.print(f"preplay: {self.names[number]}: {sentence}", soft_wrap=True, markup=False)

    def _title(self) -> str:
        return "1 run" if len(self.names) == 1 else f"{len(self.names)} runs"

    def _show_all(self) -> None:
        going = [run for number, run in enumerate(self._runs) if number not in self._ended]
        step, steps = sum(run.step for run in self._runs), sum(run.steps for run in self._runs)
        together = TrainingProgress(step, steps, steps_per_second=sum(run.steps_per_second for run in going))
        together.seconds_left = max((run.seconds_left for run in going if run.seconds_left is not None), default=None)
        text = describe(together)
        self._bar.update(self._all, completed=step, total=steps, text=text)
        if not self._live and time.monotonic() - self._last_line > TrainingDisplay.LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self._title()} {step}/{steps} {text}", file=sys.stderr, flush=True)


class EpisodeDisplay(Display):
    """A live line while episodes are played, on standard error.

    Args:
        task: the name shown.
        episodes: how many there will be.
        decisions: of a full episode; None where there is no limit.
        quiet: show nothing.
    """

    def __init__(self, task: str, episodes: int, decisions: int | None, quiet: bool = False) -> None:
        self.decisions, self._first, self._last = decisions, 0, -1
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._episodes = episodes
        self._row = self._bar.add_task(task, total=episodes, text="")

    def begin(self, first: int) -> None:
        """The episodes that follow are counted from `first`."""
        self._first = first

    def decision(self, episode: int, so_far: float) -> None:
        """A decision was taken in an episode, whose return so far this is."""
        episode += self._first
        text = f"episode {episode + 1} of {self._episodes} · return {so_far:.0f}"
        if episode != self._last:
            self._bar.update(self._row, completed=episode)
            self._last = episode
        self._bar.update(self._row, advance=1 / (self.decisions or 1000), text=text)


def _steps_bar(console: Console, live: bool) -> Progress:
    """Of environment steps, with a text beside it."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        disable=not live,
    )


def describe(progress: TrainingProgress) -> str:
    """One line of what matters while training runs."""
    parts = []
    if progress.phase == "evaluate":
        parts.append("evaluating")
    if progress.updates_due:
        parts.append(f"learning, {progress.updates_due:,} updates to make")
    if progress.last_return is not None:
        parts.append(f"return {progress.last_return:.0f}")
    if progress.evaluation is not None:
        parts.append(f"evaluated {progress.evaluation:.0f}")
    if progress.steps_per_second:
        parts.append(f"{progress.steps_per_second:.0f} steps/s")
    if progress.milliseconds_per_plan is not None:
        parts.append(f"{progress.milliseconds_per_plan:.0f} ms a plan")
    if progress.seconds_left is not None:
        minutes, seconds = divmod(int(progress.seconds_left), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
    return " · ".join(parts)
