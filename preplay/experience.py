"""`preplay experience DIR`."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import tyro
from rich.console import Console

import envs
from agent import resume
from agent.errors import ExperienceError
from agent.experience import lock
from agent.experience.merge import Merged, OnMerged, merge
from agent.experience.minari_export import export_minari
from agent.experience.minari_import import import_minari
from agent.experience.store import Experience
from preplay.counting import CountDisplay
from preplay.errors import UsageError
from preplay.holdings import holdings, lines, table
from preplay.options import OptionalFolders, OptionalName
from preplay.output import print_object
from preplay.recall import recall, store_folder, tell_damage


@dataclass(frozen=True)
class ExperienceCommand:
    """Say what a store of experience holds; check it, merge stores, and exchange them with Minari.

    Without options it lists what there is. --verify ends with exit code 1 when something is damaged. Merging, importing
    and exporting can be interrupted and repeated; nothing comes twice.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A store, or the folder of a training run."""
    verify: bool = False
    """Check every record on disk."""
    merge: OptionalFolders = None
    """Copy all episodes of these stores (or run folders) into DIR, which is made when it's missing."""
    relabel: Annotated[str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="")] = None
    """With --merge: as experience of this task. Episodes of other tasks in the same world are played again for its
    rewards."""
    import_minari: Annotated[str | None, tyro.conf.arg(metavar="DATASET", help_behavior_hint="")] = None
    """Copy a Minari data set, by name or folder, into DIR, which is made when it's missing."""
    export_minari: Annotated[str | None, tyro.conf.arg(metavar="DATASET", help_behavior_hint="")] = None
    """Write a Minari data set of this name, such as walker/walk-v0."""
    task: OptionalName = None
    """With --export-minari: only this task's episodes. With --import-minari: the task of what is imported."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Does the one thing that was asked for."""
        self._check_options()
        if self.merge:
            self._merge()
        elif self.import_minari is not None:
            self._import(self.import_minari)
        elif self.export_minari is not None:
            self._export(self.export_minari)
        elif self.verify:
            self._verify()
        else:
            self._list()

    def _check_options(self) -> None:
        jobs = {
            "--verify": self.verify,
            "--merge": self.merge is not None,
            "--import-minari": self.import_minari is not None,
            "--export-minari": self.export_minari is not None,
        }
        asked = [name for name, wanted in jobs.items() if wanted]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} don't go together; do one after the other")
        if self.merge == ():
            raise UsageError("--merge names no folder; expected one or more")
        if self.relabel is not None and not self.merge:
            raise UsageError("--relabel needs --merge: relabelled episodes are copies, in another store")
        if self.task is not None and self.import_minari is None and self.export_minari is None:
            raise UsageError("--task goes with --import-minari or --export-minari")

    def _list(self) -> None:
        with Experience(store_folder(self.folder), read_only=True) as experience:
            values = holdings(experience)
        if self.json:
            print_object(values)
            return
        console = self._console()
        if values["tasks"]:
            console.print(table(values))
            console.print()
        self._say(*lines(values))

    def _verify(self) -> None:
        folder = store_folder(self.folder)
        try:
            with (
                Experience(folder, read_only=True) as experience,
                CountDisplay("checking", "bytes", quiet=self.json) as display,
            ):
                damage, checked = experience.verify(display.update), experience.disk_bytes
        except ExperienceError as error:  # so damaged that it can't even be opened
            damage, checked = [str(error)], 0
        for sentence in damage:
            self._say(f"damaged  {sentence}")
        found = "no damage" if not damage else f"{len(damage)} piece{'' if len(damage) == 1 else 's'} of damage"
        self._say(f"{found} in {folder}")
        if self.json:
            print_object({"store": str(folder), "sound": not damage, "damage": damage, "bytes": checked})
        if damage:
            raise SystemExit(1)

    def _merge(self) -> None:
        sources = list(dict.fromkeys(store_folder(other) for other in self.merge or ()))
        done: dict[str, Merged] = {}
        with self._into() as into, CountDisplay("merging", "episodes", quiet=self.json) as display:
            report = _reporting(done, display)
            if self.relabel is None:
                for source in sources:
                    with Experience(source, read_only=True) as other:
                        tell_damage(other)
                        merge(into, other, on_progress=report)
            else:
                self._relabel(self.relabel, sources, into, report)
        self._tell(done, into.folder)

    def _relabel(self, task: str, sources: list[Path], into: Experience, report: OnMerged) -> None:
        """Merges, as experience of one task, with decisions as long as those of what is merged."""
        found = envs.find(task)
        repeats: set[int] = set()
        for source in sources:
            with Experience(source, read_only=True) as other:
                repeats |= {episode.action_repeat for episode in other.episodes}
        action_repeat = min(repeats, default=found.action_repeat)
        with contextlib.ExitStack() as stack:

            def make(name: str) -> gymnasium.Env[Any, Any]:
                env = envs.make(name, action_repeat=action_repeat)
                stack.callback(env.close)
                return env

            recall(sources, into, found.name, action_repeat, make, report)

    def _import(self, dataset: str) -> None:
        task = None if self.task is None else _known_name(self.task)
        done: dict[str, Merged] = {}
        with self._into() as into, CountDisplay("importing", "episodes", quiet=self.json) as display:
            import_minari(into, dataset, task=task, on_progress=_reporting(done, display))
        self._tell(done, into.folder)

    def _export(self, dataset: str) -> None:
        task = None if self.task is None else _known_name(self.task)
        done: dict[str, Merged] = {}
        with (
            Experience(store_folder(self.folder), read_only=True) as experience,
            CountDisplay("exporting", "episodes", quiet=self.json) as display,
        ):
            export_minari(experience, dataset, task=task, on_progress=_reporting(done, display))
        (written,) = done.values()
        if self.json:
            print_object({"dataset": dataset} | asdict(written))
        self._say(f"wrote {written.episodes:,} episodes, {written.decisions:,} decisions, as {dataset}")

    @contextlib.contextmanager
    def _into(self) -> Iterator[Experience]:
        """The store to copy into. One that was made for it and stayed empty is not left behind."""
        try:
            folder = store_folder(self.folder)
        except UsageError:
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise UsageError(
                    f"{str(self.folder)!r} exists and is no store of experience; name one, or a folder that's new"
                ) from None
            folder = self.folder
        real = folder.resolve()
        if real.name == "experience" and resume.exists(real.parent):
            raise UsageError(
                f"{str(folder)!r} belongs to a training run, which goes on from what it knows; name a folder of its own"
            )
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        with Experience(folder) as experience:
            try:
                yield experience
            except BaseException:
                if not experience.total:
                    experience.close()
                    (folder / lock.NAME).unlink(missing_ok=True)
                    for part in made:
                        with contextlib.suppress(OSError):
                            part.rmdir()
                raise

    def _tell(self, done: dict[str, Merged], folder: Path) -> None:
        for name, merged in done.items():
            relabelled = f", {merged.relabelled:,} of them with new rewards" if merged.relabelled else ""
            known = f"; {merged.known:,} episodes were there already" if merged.known else ""
            self._say(f"{name}: copied {merged.episodes:,} episodes, {merged.decisions:,} decisions{relabelled}{known}")
        if self.json:
            print_object({"store": str(folder), "merged": [asdict(merged) for merged in done.values()]})

    def _console(self) -> Console:
        return Console(stderr=self.json, highlight=False)

    def _say(self, *said: str) -> None:
        for each in said:
            self._console().print(each, soft_wrap=True, markup=False)


def _reporting(done: dict[str, Merged], display: CountDisplay) -> OnMerged:
    """Shows how far each store is, and remembers it."""

    def report(merged: Merged) -> None:
        done[merged.store] = merged
        display.update(merged.done, merged.total)

    return report


def _known_name(task: str) -> str:
    """A task's own name where it is known; data sets are of others too."""
    try:
        return envs.find(task).name
    except envs.TaskError:
        return task
