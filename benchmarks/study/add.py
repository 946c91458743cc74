"""`python -m benchmarks.study add`: takes in runs that were made by hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.study import variants
from benchmarks.study.curves import take_in
from preplay.errors import UsageError
from preplay.text import place


@dataclass(frozen=True)
class Add:
    """Take in the curves of finished runs that were made with preplay train."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Run folders."""
    variant: str = "full"
    """How they were trained; a run whose settings say otherwise is refused."""
    results: Path = Path("benchmarks/results/study")
    """Where curves go."""

    def __call__(self) -> None:
        """Takes them in."""
        if not self.runs:
            raise UsageError("there is nothing to take in; name at least one run folder")
        variant = variants.find(self.variant)
        for run in self.runs:
            print(f"{place(run)}: {place(take_in(run, variant, self.results))}")
