"""`preplay verify RESULT`."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

import envs
from agent import Episodes, describe
from preplay.actors import Cast, cast
from preplay.comparison.cells import Cell
from preplay.comparison.stage import cell_cast
from preplay.comparison.store import Key, read_episodes, read_settings
from preplay.errors import UsageError
from preplay.options import OptionalFolder, OptionalInt, OptionalName
from preplay.output import print_object
from preplay.pool import Job, play_jobs
from preplay.provenance import installed
from preplay.shipped import checkpoint_for

# Which episodes are replayed is the same every time.
_SEED = 0


@dataclass(frozen=True)
class Verify:
    """Play some episodes of a comparison again, and say whether they come out the same.

    Each episode's SHA-256, of its seed, actions and rewards, is compared with the recorded one. Episodes played on a
    budget of milliseconds depend on the machine's speed, and are left out. Ends with exit code 1 when something
    differs.
    """

    result: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT")]
    """Folder of a comparison: the --out of preplay compare."""
    episodes: int = 3
    """Episodes to play again, spread over the comparison's rows."""
    all: bool = False
    """Play all of them."""
    task: OptionalName = None
    """Its task, where that is of a module: what a file names is imported only if you name it too."""
    checkpoint: OptionalFolder = None
    """Folder of the agent, where it has moved."""
    workers: OptionalInt = None
    """Processes that play. By default one a core."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Replays, and tells."""
        if self.episodes < 1 or (self.workers is not None and self.workers < 1):
            raise UsageError("--episodes and --workers must be at least 1")
        settings = read_settings(self.result)
        recorded, _ = read_episodes(self.result)
        if not recorded:
            raise UsageError(f"{str(self.result)!r} has no episodes yet; play them with preplay compare")
        fixed = settings["fixed"]
        self._check_task(fixed["task"])
        floor = self._floor(fixed, settings["checkpoint"])
        fit = [place for place in recorded if not place[0].timed]
        if not fit:
            raise UsageError(
                f"all episodes in {str(self.result)!r} have a budget of milliseconds; none can be replayed"
            )
        chosen = fit if self.all else spread(fit, self.episodes)
        doubtful = [place for place, episode in recorded.items() if not consistent(episode)]
        console = Console(stderr=self.json, highlight=False)
        told = []
        for place, again in self._replay(chosen, floor, fixed["task"]):
            told.append(self._tell(console, place, recorded[place], again))
        for cell, seed in doubtful:
            console.print(
                f"damaged  {cell.name}, seed {seed}: its return isn't the sum of its rewards",
                soft_wrap=True,
                markup=False,
            )
        equal = not doubtful and all(each["equal"] for each in told)
        timed = len(recorded) - len(fit)
        console.print(self._summary(told, doubtful, timed, len(fit), fixed), soft_wrap=True, markup=False)
        if self.json:
            print_object(
                {
                    "result": str(self.result),
                    "equal": equal,
                    "episodes": told,
                    "damaged": [{"cell": cell.name, "seed": seed} for cell, seed in doubtful],
                    "recorded": len(recorded),
                    "timed": timed,
                }
            )
        if not equal:
            raise SystemExit(1)

    def _check_task(self, recorded: str) -> None:
        """Makes sure that no module is imported but one that the user names, too."""
        if self.task is not None and self.task != recorded:
            raise UsageError(f"the episodes in {str(self.result)!r} are of {recorded}, not {self.task}")
        if ":" in recorded and self.task is None:
            raise UsageError(
                f"the episodes are of {recorded}, whose module is imported to play them; where you trust it, say so "
                f"with: preplay verify {shlex.quote(str(self.result))} --task {shlex.quote(recorded)}"
            )

    def _floor(self, fixed: dict[str, Any], place: str | None) -> Cast:
        """Random actions, on the task and with the agent that the episodes were played with."""
        floor_task = fixed["task"]
        folder = self.checkpoint
        if fixed["weights"] is not None and folder is None:
            if place is None:
                raise UsageError(
                    f"the comparison in {str(self.result)!r} doesn't say where the agent lies that it was made with; "
                    "give its folder with --checkpoint"
                )
            # The same agent may have shipped to another place.
            folder = Path(place) if Path(place).is_dir() else checkpoint_for(envs.find(floor_task), None)
        floor = cast(floor_task, "random", folder, device=fixed["device"], action_repeat=fixed["action_repeat"])
        found = None if floor.checkpoint is None else describe(floor.checkpoint)["weights"].get("sha256")
        if fixed["weights"] is not None and found != fixed["weights"]:
            raise UsageError(
                f"the agent in {str(floor.checkpoint)!r} is not the one that these episodes were played with (its "
                f"weights have SHA-256 {str(found)[:12]}…, theirs {fixed['weights'][:12]}…); "
                "give its folder with --checkpoint"
            )
        return floor

    def _replay(self, chosen: list[Key], floor: Cast, task: str) -> Iterator[tuple[Key, Episodes]]:
        jobs = {Job(cell_cast(task, cell, floor), seed): (cell, seed) for cell, seed in chosen}
        for done in play_jobs(list(jobs), self.workers):
            yield jobs[done.job], done.episodes

    def _tell(self, console: Console, place: Key, before: Episodes, again: Episodes) -> dict[str, Any]:
        cell, seed = place
        # The digest is of the rewards too, so these tell whether the record has been changed beside its digest.
        equal = before.digests == again.digests and before.rewards == again.rewards and before.returns == again.returns
        word = "equal  " if equal else "differs"
        console.print(
            f"{word}  {cell.name}, seed {seed}: return {again.returns[0]:.6g}, recorded {before.returns[0]:.6g}",
            soft_wrap=True,
            markup=False,
        )
        return {
            "cell": cell.name,
            "seed": seed,
            "equal": equal,
            "recorded": before.digests[0],
            "replayed": again.digests[0],
            "returns": [before.returns[0], again.returns[0]],
        }

    def _summary(
        self, told: list[dict[str, Any]], doubtful: list[Key], timed: int, fit: int, fixed: dict[str, Any]
    ) -> str:
        same = sum(each["equal"] for each in told)
        lines = [f"{same} of {len(told)} replayed episodes are equal, of {fit} that can be replayed"]
        if timed:
            lines.append(f"{timed} more have a budget of milliseconds and can't be replayed exactly")
        if same < len(told):
            lines.append(
                "episodes differ when they were changed, when preplay or the task was, or when another processor or "
                "another version of a package rounds differently" + _versions(fixed["versions"])
            )
        return "; ".join(lines)


def spread(places: list[Key], count: int) -> list[Key]:
    """Some places, over as many cells as can be, the same for the same places."""
    rng = np.random.default_rng(_SEED)
    by_cell: dict[Cell, list[Key]] = {}
    for place in places:
        by_cell.setdefault(place[0], []).append(place)
    queues = [[queue[i] for i in rng.permutation(len(queue))] for queue in by_cell.values()]
    queues = [queues[i] for i in rng.permutation(len(queues))]
    rounds = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    return rounds[:count]


def consistent(episode: Episodes) -> bool:
    """Whether a recorded episode's return is the sum of its rewards, added in the order in which they came."""
    total = 0.0
    for reward in episode.rewards:
        total += reward
    return total == episode.returns[0] or not np.isfinite(total)


def _versions(before: dict[str, Any]) -> str:
    """Which versions are others than then."""
    other = [f"{name} {old}, now {installed(name)}" for name, old in before.items() if installed(name) != old]
    return f" (then {'; '.join(other)})" if other else ""
