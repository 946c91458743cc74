"""`python -m benchmarks.study report`: tables and figures from what was taken in."""

import json
from dataclasses import dataclass
from pathlib import Path

from agent.files import write_atomically
from benchmarks.study import published
from benchmarks.study.curves import read
from benchmarks.study.figures import draw_curves, draw_variants
from benchmarks.study.published import REFERENCE
from benchmarks.study.summary import TDMPC2, summary
from benchmarks.study.words import markdown
from preplay.errors import UsageError
from preplay.text import place


@dataclass(frozen=True)
class Report:
    """Make report.md, report.json and the figures anew from the curves that were taken in."""

    results: Path = Path("benchmarks/results/study")
    """Where the curves are, and the report goes."""
    reference: Path = REFERENCE
    """Published returns."""
    steps: int = 100_000
    """Environment steps at which methods are compared."""

    def __call__(self) -> None:
        """Makes them."""
        if self.steps < 1:
            raise UsageError(f"--steps is {self.steps}; expected at least 1")
        curves = read(self.results)
        if not curves:
            raise UsageError(
                f"there are no curves in {str(self.results)!r}; train some with python -m benchmarks.study train"
            )
        theirs = published.read(self.reference)
        content = summary(curves, theirs, self.steps)
        figures = {"curves.png": draw_curves(curves, theirs, self.steps)}
        # TD-MPC2 is a method of its own, and is in the curves.
        rows = [row for row in content["comparisons"] if row["pairs"] and row["name"] != TDMPC2]
        if any(row["kind"] == "ablation" for row in rows):
            figures["ablations.png"] = draw_variants(rows)
        else:
            (self.results / "ablations.png").unlink(missing_ok=True)
        for name, data in figures.items():
            write_atomically(self.results / name, data)
        write_atomically(self.results / "report.json", (json.dumps(content, indent=1) + "\n").encode())
        write_atomically(self.results / "report.md", markdown(content, list(figures)).encode())
        for name in ("report.md", "report.json", *figures):
            print(place(self.results / name))
