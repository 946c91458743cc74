"""The picture of a comparison: what it looked like, and what it returned."""

import io
from collections.abc import Iterable
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

# Planners in cold colours, the controls in a warm and a pale one.
_COLOURS = {
    "mppi": "#12507b",
    "cem": "#2f8fc5",
    "icem": "#139a8b",
    "cmaes": "#7a5aa6",
    "predictive": "#5f8f3a",
    "gradient": "#b0486f",
    "shooting": "#8c6d4f",
    "policy": "#e08e2b",
    "random": "#8a94a3",
}
_OTHERS = ("#4b8f6b", "#5a4fcf", "#b0484a", "#5f6b3a")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each planner or control, the same in every picture."""
    others = cycle(_OTHERS)
    return {name: _COLOURS.get(name) or next(others) for name in dict.fromkeys(names)}


def draw(tasks: dict[str, Any], stills: dict[str, list[Any]], labels: dict[str, str]) -> bytes:
    """A PNG with a row for each task: frames of the first planner's episode, and every episode's return as a dot.

    Args:
        tasks: rows of `preplay.demo.summary` by task and planner.
        stills: frames (height, width, 3) by task.
        labels: what a planner is called.
    """
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 9.5}):
        figure = Figure(figsize=(11, 0.4 + 2.0 * len(tasks)), layout="constrained")
        grid = figure.add_gridspec(len(tasks), 2, width_ratios=(1.3, 1), wspace=0.05, hspace=0.12)
        for i, (task, rows) in enumerate(tasks.items()):
            first = next(iter(rows))
            _film_strip(figure, grid[i, 0], stills.get(task, []), task, labels.get(first, first))
            _returns(figure.add_subplot(grid[i, 1]), rows, labels, last=i == len(tasks) - 1)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, facecolor="white")
    return file.getvalue()


def _film_strip(figure: Figure, where: SubplotSpec, frames: list[Any], task: str, who: str) -> None:
    axes = figure.add_subplot(where)
    axes.set_axis_off()
    axes.set_title(task, loc="left", fontweight="bold", fontsize=12)
    axes.set_title(f"played by {who}, from left to right" if frames else "", loc="right", fontsize=8.5, color="#555555")
    if not frames:
        return
    # Figures stay in the middle of a frame, so that the sides can be spared.
    height, width = frames[0].shape[:2]
    side = int(width * 0.14)
    gap = np.full((height, 6, 3), 255, np.uint8)
    strip: list[Any] = []
    for frame in frames:
        strip += [frame[:, side : width - side], gap]
    axes.imshow(np.concatenate(strip[:-1], axis=1), interpolation="lanczos")


def _returns(axes: Axes, rows: dict[str, Any], labels: dict[str, str], last: bool) -> None:
    spread = np.random.default_rng(0)
    colour_of = colours(rows)
    for i, (name, row) in enumerate(rows.items()):
        colour = colour_of[name]
        heights = -i + spread.uniform(-0.16, 0.16, len(row["returns"]))
        axes.scatter(row["returns"], heights, s=16, color=colour, alpha=0.4, linewidths=0)
        low, high = row["interval"]
        if low is not None:
            axes.plot([low, high], [-i, -i], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.scatter([row["mean_return"]], [-i], s=46, color=colour, zorder=3)
        axes.annotate(
            f"{row['mean_return']:.0f}",
            (row["mean_return"], -i),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
            color=colour,
        )
    axes.set_yticks([-i for i in range(len(rows))], [labels.get(name, name) for name in rows])
    axes.set_ylim(-len(rows) + 0.45, 0.65)
    most = max(max(row["returns"]) for row in rows.values())
    least = min(min(row["returns"]) for row in rows.values())
    axes.set_xlim(*span(least, most))
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if last:
        axes.set_xlabel("return: each episode, and the mean with its 95 % interval", fontsize=8.5)


def span(least: float, most: float) -> tuple[float, float]:
    """Where an axis begins and ends that must show zero and returns from `least` to `most`."""
    if least >= 0 and 0 < most <= 1000:  # the suite's returns, on the suite's scale
        most = 1000
    least, most = min(least, 0.0), max(most, 0.0)
    room = 0.05 * max(most - least, 1.0)
    return least - 0.4 * room, most + room
