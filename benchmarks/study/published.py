"""What other methods return, as their authors published it."""

import csv
from dataclasses import dataclass
from pathlib import Path

from preplay.errors import UsageError

REFERENCE = Path("benchmarks/reference/hard8.csv")
_COLUMNS = ["algo", "task", "step", "return", "seeds", "source"]


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        key: its name in the reference file.
        name: its name for people.
        updates: gradient updates a decision, as far as they are known.
        colour: of its curves.
    """

    key: str
    name: str
    updates: str
    colour: str


@dataclass(frozen=True)
class Point:
    """A published mean return.

    Attributes:
        step: environment steps, action repeat included.
        mean_return: over the seeds.
        seeds: how many.
        source: the repository that holds the results.
    """

    step: int
    mean_return: float
    seeds: int
    source: str


METHODS = (
    Method("tdmpc2", "TD-MPC2", "1", "#c0504d"),
    Method("tdmpc2_bmpcrerun", "TD-MPC2 (run by BMPC)", "1", "#e39a94"),
    Method("bmpc", "BMPC", "1", "#e08e2b"),
    Method("mrq", "MR.Q", "1", "#139a8b"),
    Method("dr.q", "DR.Q", "1", "#5f8f3a"),
    Method("simbav2_utd1", "SimbaV2, 1 update", "1", "#cdbfe0"),
    Method("simbav2_utd2", "SimbaV2, 2 updates", "2", "#a98fcc"),
    Method("simbav2_utd4", "SimbaV2, 4 updates", "4", "#7a5aa6"),
    Method("simbav2_utd8", "SimbaV2, 8 updates", "8", "#4d3478"),
    # The file's name says ten a step, but not whether a step is one of the environment or a decision of two.
    Method("bro_utd10", "BRO", "10 or 20", "#b0486f"),
    Method("xqc", "XQC", "not stated", "#8c6d4f"),
    Method("sac", "SAC", "1", "#8a94a3"),
    Method("dreamerv3", "DreamerV3", "not stated", "#c9b458"),
)

Published = dict[str, dict[str, list[Point]]]
"""Curves by method key and task, in the order of their steps."""


def read(file: Path = REFERENCE) -> Published:
    """The published curves.

    Raises:
        UsageError: when the file is missing or damaged.
    """
    curves: Published = {method.key: {} for method in METHODS}
    try:
        with file.open(newline="") as opened:
            rows = csv.DictReader(opened)
            if rows.fieldnames != _COLUMNS:
                raise ValueError
            for row in rows:
                point = Point(int(row["step"]), float(row["return"]), int(row["seeds"]), row["source"])
                curves[row["algo"]].setdefault(row["task"], []).append(point)
    except FileNotFoundError:
        raise UsageError(f"there is no {str(file)!r}; put back the file of published returns") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{str(file)!r} is damaged; expected the columns {', '.join(_COLUMNS)}") from None
    for tasks in curves.values():
        for points in tasks.values():
            points.sort(key=lambda point: point.step)
    return curves


def at(published: Published, method: str, step: int) -> dict[str, float]:
    """A method's mean returns by task, at exactly these environment steps."""
    return {
        task: point.mean_return for task, points in published[method].items() for point in points if point.step == step
    }
