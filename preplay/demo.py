"""`preplay demo`."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import envs
from agent import Episodes, bootstrap_interval, describe
from agent.files import write_atomically
from agent.processes import available_cores
from preplay.actors import POLICY, RANDOM, cast, check_planner, check_seeds
from preplay.errors import UsageError
from preplay.options import OptionalInt
from preplay.output import print_object
from preplay.pool import Job, play_jobs
from preplay.provenance import provenance
from preplay.text import LABELS, file_name, interval_text
from preplay.video import check_encoder

# Where in an episode the pictures are taken: most happens at its beginning.
STILLS = (0.0, 0.02, 0.06, 0.3)


@dataclass(frozen=True)
class Demo:
    """Play the shipped agents beside their controls, and write a report with pictures and videos.

    Every task is played by all of --planners, usually the policy prior alone and random actions among them, from the
    same starting states.
    """

    tasks: tuple[str, ...] = ("walker-walk", "cartpole-swingup")
    """Tasks that an agent ships for."""
    planners: tuple[str, ...] = ("mppi", "cem", POLICY, RANDOM)
    """Who plays."""
    episodes: int = 5
    """Episodes of each task for each planner."""
    seed: int = 10_000
    """Seed of the first episode; the next ones count up from it."""
    out: Path = field(default_factory=lambda: Path("runs/demo"))
    """Folder of the report."""
    workers: OptionalInt = None
    """Processes that play. By default one a core."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Plays, and reports."""
        if self.episodes < 1 or (self.workers is not None and self.workers < 1):
            raise UsageError("--episodes and --workers must be at least 1")
        check_seeds(self.seed, self.episodes)
        if not self.tasks or not self.planners:
            raise UsageError("--tasks and --planners must name at least one each")
        for planner in self.planners:
            check_planner(planner)
        without_films = ""
        try:
            envs.choose_backend()
            check_encoder()
        except (envs.RenderError, UsageError) as error:
            # The figures are the main thing, and need no pictures.
            without_films = f"no videos: {error}"
        jobs = self._jobs(filmed=not without_films)
        try:
            (self.out / "videos").mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{str(self.out)!r} is no folder; choose another --out") from None
        began = time.perf_counter()
        results, stills = self._play(jobs)
        tasks = {task: summary(by_planner) for task, by_planner in results.items()}
        report = {
            "tasks": tasks,
            "seed": self.seed,
            "episodes": self.episodes,
            "seconds": round(time.perf_counter() - began, 1),
            "workers": min(self.workers or available_cores(), len(jobs)),
            "provenance": provenance(),
            "without_films": without_films,
            "weights": {job.cast.task: describe(job.cast.checkpoint)["weights"] for job in jobs if job.cast.checkpoint},
        }
        # matplotlib takes a while to import, and nobody needs it before there is something to draw.
        from preplay.chart import draw
        from preplay.report import write_report

        write_atomically(self.out / "results.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomically(self.out / "returns.png", draw(tasks, stills, LABELS))
        write_report(self.out, report, LABELS)
        if self.json:
            print_object(report | {"report": str(self.out / "report.html")})
            return
        console = Console(highlight=False)
        console.print(table(tasks))
        films = without_films or f"videos:  {self.out / 'videos'}{os.sep}"
        for said in (f"report:  {self.out / 'report.html'}", f"picture: {self.out / 'returns.png'}", films):
            console.print(said, soft_wrap=True, markup=False)

    def _jobs(self, filmed: bool) -> list[Job]:
        """All episodes, the longest first, so that no worker is left alone with one at the end."""
        jobs = []
        for i in range(self.episodes):
            for planner in self.planners:
                for task in self.tasks:
                    who = cast(task, planner)
                    film = filmed and i == 0
                    video = self.out / "videos" / f"{file_name(who.task)}-{planner}.mp4" if film else None
                    jobs.append(Job(who, self.seed + i, video, STILLS if planner == self.planners[0] else ()))
        jobs = list(dict.fromkeys(jobs))  # a task or a planner named twice is played once
        slow = [job for job in jobs if job.cast.planner not in (POLICY, RANDOM)]
        return slow + [job for job in jobs if job.cast.planner in (POLICY, RANDOM)]

    def _play(self, jobs: list[Job]) -> tuple[dict[str, dict[str, Episodes]], dict[str, list[Any]]]:
        """Episodes in the order of their seeds, by task and planner, and the stills of each task."""
        played = {}
        stills = {}
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, disable=self.json or not console.is_terminal) as bar:
            row = bar.add_task("playing episodes", total=len(jobs))
            for done in play_jobs(jobs, self.workers):
                played[done.job] = done.episodes
                if done.stills:
                    stills[done.job.cast.task] = done.stills
                bar.update(row, advance=1)
        results: dict[str, dict[str, Episodes]] = {}
        for job in sorted(jobs, key=lambda job: job.seed):
            by_planner = results.setdefault(job.cast.task, {})
            by_planner.setdefault(str(job.cast.planner), Episodes()).extend(played[job])
        order = [cast(task, RANDOM).task for task in self.tasks]
        return {task: {name: results[task][name] for name in self.planners} for task in order}, stills


def summary(by_planner: dict[str, Episodes]) -> dict[str, Any]:
    """One task's results as plain values: a row for each planner."""
    rows: dict[str, Any] = {}
    control = by_planner.get(POLICY)
    for name, episodes in by_planner.items():
        rows[name] = {
            "mean_return": episodes.mean_return,
            "interval": episodes.interval,
            "returns": episodes.returns,
            "seeds": episodes.seeds,
            "lengths": episodes.lengths,
            "terminated": episodes.terminated,
            "unstable": episodes.unstable,
            "milliseconds": episodes.percentiles(),
            "over_policy": None,
        }
        if control is not None and name not in (POLICY, RANDOM):
            # The episodes are paired by their seeds, so it is their differences that are averaged.
            gain = np.subtract(episodes.returns, control.returns)
            rows[name]["over_policy"] = {"mean": float(gain.mean()), "interval": bootstrap_interval(gain.tolist())}
    return rows


def table(tasks: dict[str, Any]) -> Table:
    """The results of `summary`, for a terminal."""
    # Narrow enough for a terminal of 80 columns.
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name, side in {"task": "left", "actions by": "left", "return": "right", "95 % interval": "right"}.items():
        shown.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    shown.add_column("ms a decision", justify="right", no_wrap=True)
    shown.add_column("episodes", justify="right", no_wrap=True)
    for task, rows in tasks.items():
        for i, (name, row) in enumerate(rows.items()):
            shown.add_row(
                task if i == 0 else "",
                LABELS.get(name, name),
                f"{row['mean_return']:.0f}",
                interval_text(row["interval"]),
                f"{row['milliseconds']['p50']:.1f}",
                str(len(row["returns"])),
                end_section=i == len(rows) - 1,
            )
    return shown
