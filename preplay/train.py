"""`preplay train TASK`."""

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

import envs
from agent import AgentInfo, Episodes, TrainConfig, Trainer, preset
from preplay.actors import check_time_limit
from preplay.card import write_card
from preplay.errors import UsageError
from preplay.options import OptionalFolder, OptionalInt, TaskName
from preplay.output import print_object
from preplay.progress import TrainingDisplay
from preplay.provenance import provenance
from preplay.text import file_name, interval_text

# The least room a run needs on disk: a few checkpoints and the logs.
ROOM = 64 * 2**20


@dataclass(frozen=True)
class Train:
    """Train an agent on a task, and evaluate what was stored, with and without its planner.

    The run folder holds config.json and the weights (a checkpoint that `preplay run` and `Agent.load` take),
    metrics.jsonl, TensorBoard events, and a card.
    """

    task: TaskName
    """A task that `preplay tasks` lists, any Gymnasium id with continuous actions, or module:Id."""
    preset: str = "small"
    """Size of the agent: tiny, small (made for a CPU) or base (for a GPU)."""
    out: OptionalFolder = None
    """Run folder. By default runs/TASK-seedN. One that exists and isn't empty is refused."""
    action_repeat: OptionalInt = None
    """Environment steps that one decision lasts. By default 2 for DMControl, 1 for Gymnasium."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @staticmethod
    def defaults(arguments: list[str]) -> "Train":
        """The defaults are the preset's, so the preset has to be known before the other options are."""
        name = "small"
        for i, argument in enumerate(arguments):
            if argument == "--preset" and i + 1 < len(arguments):
                name = arguments[i + 1]
            elif argument.startswith("--preset="):
                name = argument.removeprefix("--preset=")
        return Train(tyro.MISSING, preset=name, config=preset(name))

    def __call__(self) -> None:
        """Trains."""
        task = envs.find(self.task)
        check_time_limit(task)
        folder = self.out or Path("runs") / f"{file_name(task.name)}-seed{self.config.seed}"
        self._check_folder(folder)
        env = envs.make(self.task, action_repeat=self.action_repeat)
        evaluation_env = envs.make(self.task, action_repeat=self.action_repeat)
        task = env.get_wrapper_attr("task")
        info = AgentInfo(
            task.name,
            task.action_repeat,
            task.decisions,
            task.can_terminate,
            envs.winding_angles(evaluation_env),
            provenance(),
        )
        made = [part for part in (folder, *folder.parents) if not part.exists()]
        with TrainingDisplay(task.name, quiet=self.json) as display:
            try:
                trainer = Trainer(env, evaluation_env, self.config, info, folder, display.update)
                results = trainer.run()
            except BaseException:
                if not (folder / "config.json").exists():
                    self._leave_no_shell(folder, made)
                raise
            finally:
                env.close()
                evaluation_env.close()
        write_card(folder)
        self._say(folder, results)

    def _check_folder(self, folder: Path) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{str(folder)!r} already holds something; choose another --out, or remove it")
        parent = next(p for p in [folder, *folder.resolve().parents] if p.exists())
        if shutil.disk_usage(parent).free < ROOM:
            raise UsageError(
                f"less than {ROOM >> 20} MB are free for {str(folder)!r}; make room or choose another --out"
            )

    def _leave_no_shell(self, folder: Path, made: list[Path]) -> None:
        """Removes what a run wrote that failed before it stored an agent, and the folders made for it."""
        for left in folder.iterdir() if folder.exists() else ():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with contextlib.suppress(OSError):  # a folder that others use by now stays
            for part in made:
                part.rmdir()

    def _say(self, folder: Path, results: dict[str, Episodes]) -> None:
        if self.json:
            rows = {
                name: {"mean_return": r.mean_return, "interval": r.interval, "returns": r.returns}
                for name, r in results.items()
            }
            print_object({"folder": str(folder), "task": self.task, "steps": self.config.steps} | rows)
            return
        for name, r in results.items():
            episodes = "1 episode" if len(r.returns) == 1 else f"{len(r.returns)} episodes"
            print(f"{name:8} {r.mean_return:7.1f} ({interval_text(r.interval)}) over {episodes}")
        print(f"stored in {folder}; play it with: preplay run {self.task} --checkpoint {folder}")
