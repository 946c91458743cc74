"""The report's pictures: learning curves over published ones, and what each variant changes."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.curves import Curve
from benchmarks.study.published import METHODS, Point, Published
from benchmarks.study.tasks import HARD_8

_OURS = "#12507b"
_KIND_COLOURS = {"ablation": _OURS, "control": "#e08e2b"}
_STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 9.5}

Line = list[tuple[int, float]]
"""Environment steps and return, in the order of steps."""


def draw_curves(curves: Sequence[Curve], theirs: Published, steps: int) -> bytes:
    """A PNG with a panel for each task of hard-8, and one for the mean over those that have been trained."""
    ours = {task: lines_of_seeds(curves, task, steps) for task in HARD_8}
    trained = [task for task in HARD_8 if ours[task]]
    lines = {key: {task: _line(points, steps) for task, points in tasks.items()} for key, tasks in theirs.items()}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 9.2), layout="constrained")
        panels = figure.subplots(3, 3, sharex=True)
        for axes, task in zip(panels.flat, HARD_8, strict=False):
            _panel(axes, task, {key: tasks[task] for key, tasks in lines.items() if task in tasks}, ours[task], steps)
            if not ours[task]:
                axes.set_title("not trained yet", loc="right", fontsize=8.5, color="#555555")
        axes = panels.flat[-1]
        tasks = trained or list(HARD_8)
        title = "mean of all 8 tasks" if len(tasks) == len(HARD_8) else f"mean of the {len(tasks)} trained"
        # Of a method that lacks one of the tasks, a mean over the others would be another mean.
        means = {key: average([x[t] for t in tasks]) for key, x in lines.items() if all(t in x for t in tasks)}
        mine = average([average(ours[task]) for task in trained])
        _panel(axes, title, means, [mine] if mine else [], steps)
        for axes in panels[-1]:
            axes.set_xlabel("environment steps, thousands", fontsize=8.5)
        for axes in panels[:, 0]:
            axes.set_ylabel("return", fontsize=8.5)
        handles = {label: handle for axes in panels.flat for handle, label in zip(*_legend(axes), strict=True)}
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=5,
            frameon=False,
            fontsize=9,
            title="dots are published means, nothing is known between them",
            title_fontsize=8.5,
        )
        return _png(figure)


def draw_variants(rows: Sequence[dict[str, Any]]) -> bytes:
    """A PNG with a line for each comparison: how far the variant is from the full agent, each pair and their mean.

    Args:
        rows: comparisons of `benchmarks.study.summary.summary` that have pairs.
    """
    spread = np.random.default_rng(0)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.5, 1.0 + 0.55 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color="#8a94a3", linewidth=1)
        for i, row in enumerate(rows):
            colour, mean = _KIND_COLOURS[row["kind"]], -row["difference"]
            each = [-pair["difference"] for pair in row["pairs"]]
            heights = -i + spread.uniform(-0.14, 0.14, len(each))
            axes.scatter(each, heights, s=18, color=colour, alpha=0.4, linewidths=0)
            if row["interval"] is not None:
                low, high = row["interval"]
                axes.plot([-high, -low], [-i, -i], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
            axes.scatter([mean], [-i], s=48, color=colour, zorder=3)
            axes.annotate(
                f"{mean:+.0f}",
                (mean, -i),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontweight="bold",
                color=colour,
            )
        counts = [f"{len(row['tasks'])} task{'s' if len(row['tasks']) > 1 else ''}" for row in rows]
        names = [
            f"{row['name']}\n{row['steps'] // 1000}k steps, {count}" for row, count in zip(rows, counts, strict=True)
        ]
        axes.set_yticks([-i for i in range(len(rows))], names, fontsize=8.5)
        axes.set_ylim(-len(rows) + 0.45, 0.65)
        axes.margins(x=0.08)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.tick_params(axis="y", length=0)
        _calm(axes, "top", "right", "left")
        axes.set_xlabel("return less that of the full agent: each task and seed, and the mean over tasks", fontsize=8.5)
        return _png(figure)


def average(lines: Iterable[Line]) -> Line:
    """The mean of several lines, at the steps that all of them have."""
    tables: list[Mapping[int, float]] = [dict(line) for line in lines]
    if not tables:
        return []
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return [(step, float(np.mean([table[step] for table in tables]))) for step in steps]


def lines_of_seeds(curves: Sequence[Curve], task: str, steps: int) -> list[Line]:
    """The full agent's curve for each seed on a task, that of its longest run.

    One that ends before `steps` is left out where another doesn't, since their mean would end with it.
    """
    longest: dict[int, Curve] = {}
    for curve in curves:
        if (curve.variant, curve.task) == ("full", task):
            known = longest.get(curve.seed)
            longest[curve.seed] = curve if known is None or curve.steps > known.steps else known
    found = [curve for curve in longest.values() if curve.steps >= steps] or list(longest.values())
    lines = ([point for point in curve.points if point[0] <= steps] for curve in found)
    return [line for line in lines if line]


def _line(points: Iterable[Point], steps: int) -> Line:
    return [(point.step, point.mean_return) for point in points if point.step <= steps]


def _panel(axes: Axes, title: str, theirs: Mapping[str, Line], ours: list[Line], steps: int) -> None:
    """One panel: published curves, each seed of ours, and their mean."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    for method in METHODS:
        axes.plot(
            *_xy(theirs.get(method.key, [])),
            color=method.colour,
            label=method.name,
            linestyle=":",  # of most methods two points are known, so the line between them is no curve
            linewidth=1,
            marker="o",
            markersize=3.5,
        )
    if len(ours) > 1:
        for line in ours:
            axes.plot(*_xy(line), color=_OURS, linewidth=0.9, alpha=0.45, zorder=4)
    if ours:
        axes.plot(*_xy(average(ours)), color=_OURS, linewidth=3, label="preplay", zorder=5, solid_capstyle="round")
    axes.set_xlim(0, steps / 1000 * 1.02)
    axes.set_ylim(bottom=0)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    _calm(axes, "top", "right")


def _xy(line: Line) -> tuple[list[float], list[float]]:
    return [step / 1000 for step, _ in line], [x for _, x in line]


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """Handles and labels, ours first."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] != "preplay")
    return [handles[i] for i in order], [labels[i] for i in order]


def _calm(axes: Axes, *sides: str) -> None:
    axes.set_axisbelow(True)
    for side in sides:
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="white")
    return file.getvalue()
