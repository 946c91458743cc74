"""`preplay compare TASK`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import envs
from agent import describe
from agent.agent import choose_device
from agent.files import write_atomically
from agent.processes import available_cores
from preplay.actors import RANDOM, Cast, cast, check_seeds
from preplay.comparison import results
from preplay.comparison.cells import Cell, cells
from preplay.comparison.stage import casts
from preplay.comparison.store import EPISODES, SETTINGS, Journal, read_episodes, read_settings, write_settings
from preplay.comparison.words import figure_text, milliseconds_text, range_text, share_text
from preplay.errors import UsageError
from preplay.options import OptionalFolder, OptionalInt, TaskName
from preplay.output import print_object
from preplay.pool import FILM, Job, play_jobs
from preplay.provenance import installed, provenance
from preplay.text import file_name, place
from preplay.video import check_encoder, remove_unfinished

# Versions that episodes depend on.
_VERSIONS = ("torch", "mujoco", "gymnasium", "dm-control", "numpy")


@dataclass(frozen=True)
class Compare:
    """Play a task with many planners from the same starting states, and write a report that says which is best.

    Every combination of --planners, --models, --budgets and --horizons is played, and, always, the policy prior alone
    and random actions. Lists are written `mppi,cem` or `mppi cem`. Interrupted, the same command goes on where it
    stopped; the same --out also takes more episodes, planners and budgets later. A combination that can't be (a
    planner that needs gradients, in a simulator that has none) is left out and named in the report.
    """

    task: TaskName
    """A task that `preplay tasks` lists, any Gymnasium id with continuous actions, or module:Id."""
    planners: tuple[str, ...] = ("mppi", "cem")
    """Who plays. Options may come after colons: mppi:knots=6:noise_beta=2. There are bootstrap, elites, execute,
    interpolation, knots, noise_beta, pessimism, proposals and replan_every."""
    models: tuple[str, ...] = ("learned",)
    """learned, simulator (the true dynamics up to the horizon) or simulator+value (plus the agent's value there)."""
    budgets: tuple[str, ...] = ("default",)
    """The search for a decision: 512x6 (samples x iterations), 20ms (time), or default (the agent's)."""
    horizons: tuple[str, ...] = ("default",)
    """Decisions they look ahead, or default: the agent's or, in the simulator alone, 30."""
    episodes: int = 10
    """Episodes of each combination."""
    seed: int = 10_000
    """Seed of the first episode; the next ones count up from it."""
    checkpoint: OptionalFolder = None
    """Folder of the agent. By default the one that ships with preplay."""
    action_repeat: OptionalInt = None
    """Environment steps that one decision lasts. By default what the agent was trained with."""
    out: OptionalFolder = None
    """Folder of the comparison. By default runs/compare-TASK."""
    workers: OptionalInt = None
    """Processes that play. By default one a core; timings are truest with 1."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Plays what hasn't been played yet, and reports."""
        if self.episodes < 1 or (self.workers is not None and self.workers < 1):
            raise UsageError("--episodes and --workers must be at least 1")
        if self.action_repeat is not None and self.action_repeat < 1:
            raise UsageError(f"--action-repeat is {self.action_repeat}; it must be at least 1")
        check_seeds(self.seed, self.episodes)
        asked = cells(self.planners, self.models, self.budgets, self.horizons)
        floor = cast(self.task, RANDOM, self.checkpoint, self.device, action_repeat=self.action_repeat)
        fixed = self._fixed(floor)
        folder = self.out or Path("runs") / f"compare-{file_name(floor.task)}"
        self._check(folder, fixed)
        without_films = _without_films(floor)
        # All that was asked for must make sense before anything is written.
        known = {cell for cell, _ in read_episodes(folder)[0]}
        playing, left_out = casts(self.task, asked, floor, known)
        _make(folder / "videos")
        with Journal(folder) as journal:
            self._check(folder, fixed)  # another command may have been quicker
            jobs = self._jobs(playing, journal, folder, filmed=not without_films)
            settings = self._settings(folder, fixed, floor, min(self.workers or available_cores(), len(jobs)))
            write_settings(folder, settings)
            self._play(jobs, journal)
            found = results.summarise(
                settings, journal.episodes, list(playing), range(self.seed, self.seed + self.episodes), left_out
            )
        self._report(folder, found | {"without_films": without_films})

    def _fixed(self, floor: Cast) -> dict[str, Any]:
        """Everything that all episodes of a comparison must have in common, for people to read."""
        agent = None if floor.checkpoint is None else describe(floor.checkpoint)
        return {
            "task": floor.task,
            "weights": None if agent is None else agent["weights"].get("sha256"),
            "planning": None if agent is None else agent["config"].get("planning"),
            "action_repeat": floor.action_repeat,
            "seed": self.seed,
            "device": choose_device(self.device).type,
            "versions": {name: installed(name) for name in _VERSIONS},
        }

    def _check(self, folder: Path, fixed: dict[str, Any]) -> None:
        """Makes sure that these episodes belong into a folder.

        Raises:
            UsageError: when it holds something else, or was played with other settings.
        """
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is no folder; choose another --out")
        if not folder.exists() or not (folder / SETTINGS).exists():
            if folder.exists() and any(_foreign(file) for file in folder.iterdir()):
                raise UsageError(f"{str(folder)!r} already holds something that is no comparison; choose another --out")
            return
        before = read_settings(folder)["fixed"]
        for key, now in fixed.items():
            if before.get(key) != now:
                raise UsageError(
                    f"the comparison in {str(folder)!r} was played with {_difference(key, before.get(key), now)}; "
                    "choose another --out"
                )

    def _jobs(self, playing: dict[Cell, Cast], journal: Journal, folder: Path, filmed: bool) -> dict[Job, Cell]:
        """What is still to be played: all cells advance together, so that an interruption leaves them comparable."""
        jobs = {}
        for seed in range(self.seed, self.seed + self.episodes):
            for cell, who in playing.items():
                video = folder / "videos" / f"{cell.file_name}.mp4" if filmed and seed == self.seed else None
                if video is not None:
                    remove_unfinished(video)
                missing = (cell, seed) not in journal.episodes
                # An episode that was played where nothing could be filmed is played again for its film, if it can be.
                if missing or (video is not None and not video.exists() and not cell.timed):
                    jobs[Job(who, seed, video)] = cell
        return jobs

    def _settings(self, folder: Path, fixed: dict[str, Any], floor: Cast, workers: int) -> dict[str, Any]:
        """What `comparison.json` says from now on."""
        sittings = read_settings(folder)["sittings"] if (folder / SETTINGS).exists() else []
        if workers:
            sittings = [*sittings, provenance() | {"workers": workers}]
        return {
            "fixed": fixed,
            "episodes": self.episodes,
            "checkpoint": None if floor.checkpoint is None else place(floor.checkpoint),
            "sittings": sittings,
        }

    def _play(self, jobs: dict[Job, Cell], journal: Journal) -> None:
        """Plays, and keeps every episode as soon as it has ended."""
        if not jobs:
            return
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        kept = 0
        try:
            with Progress(*columns, console=console, disable=self.json or not console.is_terminal) as bar:
                row = bar.add_task("playing episodes", total=len(jobs))
                for done in play_jobs(list(jobs), self.workers):
                    cell = jobs[done.job]
                    before = journal.episodes.get((cell, done.job.seed))
                    if before is None:
                        journal.append(cell, done.episodes)
                    elif before.digests != done.episodes.digests and done.job.video is not None:
                        done.job.video.unlink()  # it came out otherwise than what is recorded, so it doesn't show that
                    kept += 1
                    bar.update(row, advance=1)
        except BaseException:
            print(
                f"preplay: {kept} of {len(jobs)} episodes were played and are kept; the same command goes on there",
                file=sys.stderr,
            )
            raise

    def _report(self, folder: Path, found: dict[str, Any]) -> None:
        # matplotlib takes a while to import, and nobody needs it before there is something to draw.
        from preplay.comparison.page import page
        from preplay.comparison.picture import draw

        drawn = draw(found["task"], found["rows"], found["front"])
        write_atomically(folder / "results.json", results.as_json(found).encode())
        write_atomically(folder / "returns.png", drawn)
        write_atomically(folder / "report.html", page(found, drawn, folder / "videos").encode())
        if self.json:
            print_object(found | {"report": str(folder / "report.html")})
            return
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
        console.print(table(found["rows"]))
        for name, reason in found["left_out"].items():
            console.print(f"left out: {name}: {reason}", soft_wrap=True, markup=False)
        for name, played in found["unfinished"].items():
            console.print(
                f"not shown: {name}: {played} of {self.episodes} episodes are played; name it too, to play the rest",
                soft_wrap=True,
                markup=False,
            )
        console.print(
            f"report:   {folder / 'report.html'}\nepisodes: {folder / EPISODES}", soft_wrap=True, markup=False
        )
        console.print(found["without_films"] or f"videos:   {folder / 'videos'}{os.sep}", soft_wrap=True, markup=False)


def table(rows: list[dict[str, Any]]) -> Table:
    """The results, for a terminal of 100 columns."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in ("actions by", "model", "search"):
        shown.add_column(name, no_wrap=True)
    for name in ("return", "95 % interval", "> prior", "ms", "p95", "missed"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cell = Cell(**row["cell"])
        over = row["over_policy"]
        shown.add_row(
            cell.label,
            cell.model or "",
            " ".join(filter(None, (cell.budget, "" if cell.horizon is None else f"h{cell.horizon}", cell.options))),
            figure_text(row["mean_return"]),
            range_text(row["interval"], row["mean_return"]),
            "" if over is None else share_text(over["probability"]),
            *milliseconds_text(row),
            share_text(row["misses"]),
        )
    return shown


def _foreign(file: Path) -> bool:
    """Whether a file in a folder without settings is no trace of a comparison that was stopped as it began."""
    empty = file.name == EPISODES and file.stat().st_size == 0
    films = file.name == "videos" and file.is_dir() and not any(file.iterdir())
    return not (empty or films or file.name.startswith("."))


def _difference(key: str, before: Any, now: Any) -> str:
    """In what way the settings that all episodes have in common differ."""
    if key == "weights":
        return f"another agent (its weights have SHA-256 {str(before)[:12]}…, not {str(now)[:12]}…)"
    if key == "planning":
        return "an agent that plans with other settings"
    if key == "versions" and isinstance(before, dict):
        changed = [
            f"{name} {before.get(name)}, not {version}" for name, version in now.items() if before.get(name) != version
        ]
        return " and ".join(changed)
    return f"{key.replace('_', ' ')} {before}, not {now}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{str(folder)!r} is no folder; choose another --out") from None


def _without_films(who: Cast) -> str:
    """Why nothing can be filmed; empty where it can. The figures are the main thing, and need no pictures."""
    try:
        who.env(**FILM).close()
        check_encoder()
    except (envs.RenderError, UsageError) as error:
        return f"no videos: {error}"
    return ""
