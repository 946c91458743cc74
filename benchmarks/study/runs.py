"""One run of the study: where it lies, and what brings it to its end."""

from dataclasses import dataclass
from pathlib import Path

from agent import resume
from benchmarks.study.variants import Variant, check_fit
from preplay.errors import UsageError
from preplay.text import file_name, place

# Every tenth of 100,000 steps; three episodes cost little, and ten at the end are what tables show.
_EVALUATION = ("--evaluate-every", "10000", "--evaluation-episodes", "3", "--final-episodes", "10")


@dataclass(frozen=True)
class Job:
    """A run that is wanted.

    Attributes:
        variant: how it is trained.
        task: on what.
        seed: with which seed.
        steps: how many environment steps, at least.
        out: the folder that holds all runs.
        compiled: whether a run that starts lets torch compile; one that goes on does as it did.
    """

    variant: Variant
    task: str
    seed: int
    steps: int
    out: Path
    compiled: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.variant.name} {self.task} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.out / self.variant.name / f"{file_name(self.task)}-seed{self.seed}"

    @property
    def log(self) -> Path:
        """What it prints, beside its folder."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def arguments(self) -> list[str] | None:
        """What `preplay train` is given to start it, or to go on; None when it has its steps and is finished.

        Raises:
            UsageError: when its folder holds another run.
            CheckpointError: when what it holds is damaged.
        """
        if not resume.exists(self.folder):
            how = ["--seed", str(self.seed), "--steps", str(self.steps), *_EVALUATION]
            how += ["--compile"] if self.compiled else []
            return [self.task, *self.variant.arguments, *how, "--out", place(self.folder)]
        state, where = resume.read(self.folder), place(self.folder)
        if (state.info.task, state.config.seed) != (self.task, self.seed):
            raise UsageError(
                f"the run in {where!r} trains {state.info.task} with seed {state.config.seed}, not {self.task} with "
                f"{self.seed}; move it away"
            )
        check_fit(state.config, state.info, self.variant, where)
        if state.config.steps >= self.steps:
            return None if state.moment.finished else [self.task, "--resume", where]
        return [self.task, "--resume", where, "--steps", str(self.steps)]
