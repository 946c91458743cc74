"""The picture of a comparison: return against compute, and the Pareto front of the two."""

import io
import math
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from preplay.chart import colours
from preplay.comparison.cells import MODELS, Cell
from preplay.comparison.words import figure_text

_MARKERS = dict(zip(MODELS, ("o", "s", "D"), strict=True))
_DPI = 150
# With more cells than this, only those on the front, and each planner's best, have their names written beside them.
_MOST_LABELS = 24
# So that words can be read where they cross a line.
_OUTLINE: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground="white")]
_FRONT, _QUIET = "#c3cad4", "#5a6675"


def draw(task: str, rows: list[dict[str, Any]], front: list[str]) -> bytes:
    """A PNG: each cell's mean return over its milliseconds a decision, the Pareto front, and the controls as lines.

    Args:
        task: its name.
        rows: of `results.summarise`.
        front: names of the cells on the Pareto front, from the cheapest on.
    """
    cells = {row["name"]: Cell(**row["cell"]) for row in rows}
    searching = [row for row in rows if not cells[row["name"]].control]
    controls = [row for row in rows if cells[row["name"]].control]
    colour_of = colours(cells[row["name"]].planner for row in rows)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(11, 6), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        figure.suptitle(task, x=0.005, ha="left", fontweight="bold", fontsize=13, color="#1d2733")
        _frame(axes, searching, controls)
        stairs = _front(axes, [row for name in front for row in searching if row["name"] == name])
        for row in searching:
            cell = cells[row["name"]]
            x, colour = row["milliseconds"]["p50"], colour_of[cell.planner]
            low, high = row["interval"]
            if low is not None:
                axes.plot([x, x], [low, high], color=colour, linewidth=4, alpha=0.3, solid_capstyle="round", zorder=2)
            style: dict[str, Any] = {"s": 74, "linewidths": 1.2, "edgecolors": "white", "zorder": 4}
            axes.scatter([x], [row["mean_return"]], marker=_MARKERS[str(cell.model)], color=colour, **style)
        _legend(axes, [cells[row["name"]] for row in searching], colour_of)
        figure.draw_without_rendering()  # places are known from here on
        taken = _draw_controls(axes, controls, cells, colour_of)
        lines = [axes.transData.transform(np.array(stairs).reshape(-1, 2))]
        lines += [axes.transData.transform([(x, row["mean_return"]) for x in axes.get_xlim()]) for row in controls]
        _names(axes, searching, cells, colour_of, front, taken, lines)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, facecolor="white")
    return file.getvalue()


def limits(searching: list[dict[str, Any]], controls: list[dict[str, Any]]) -> tuple[float, float]:
    """Where the axis of returns begins and ends.

    It shows all cells and their intervals. A control that lies far off would press them together, and is left outside.
    """
    ends = [end for row in searching for end in (row["mean_return"], *row["interval"]) if end is not None]
    if not ends:
        ends = [row["mean_return"] for row in controls]
    low, high = min(ends), max(ends)
    reach = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-6)
    for row in controls:
        value = row["mean_return"]
        if low - 1.2 * reach <= value <= high + 1.2 * reach:
            low, high = min(low, value), max(high, value)
    room = 0.09 * max(high - low, reach)
    return low - room, high + room


def _frame(axes: Axes, searching: list[dict[str, Any]], controls: list[dict[str, Any]]) -> None:
    axes.set_xscale("log")
    times = [max(row["milliseconds"]["p50"], 1e-3) for row in searching] or [1.0, 100.0]
    # Never narrower than a factor of ten: nobody should take a few per cent of noise for a difference.
    middle, reach = math.sqrt(min(times) * max(times)), math.sqrt(max(max(times) / min(times), 10)) * 1.3
    axes.set_xlim(middle / reach, middle * reach)
    axes.set_ylim(*limits(searching, controls))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.grid(color="#eceff3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9aa4b1")
    axes.tick_params(color="#9aa4b1", labelcolor="#3a4553")
    axes.set_xlabel("milliseconds a decision, median", color="#3a4553")
    axes.set_ylabel("mean return, with its 95 % interval", color="#3a4553")


def _front(axes: Axes, rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """The best return to be had for so much time, as a staircase; returns its corners."""
    corners: list[tuple[float, float]] = []
    height = axes.get_ylim()[0]
    for row in rows:
        x = row["milliseconds"]["p50"]
        corners += [(x, height), (x, row["mean_return"])]
        height = row["mean_return"]
    if rows:
        corners.append((axes.get_xlim()[1], height))
        axes.plot(*zip(*corners, strict=True), color=_FRONT, linewidth=1.8, zorder=1, solid_joinstyle="round")
    return corners


def _legend(axes: Axes, cells: list[Cell], colour_of: dict[str, str]) -> None:
    """Above the axes: which colour is which planner, which marker is which model, and the front."""
    if not cells:
        return
    names = {cell.planner: cell.label for cell in cells}
    kinds = [kind for kind in MODELS if kind in {cell.model for cell in cells}]

    def key(marker: str, colour: str, name: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=8, label=name)

    keys = [key("o", colour_of[planner], name) for planner, name in names.items()]
    keys += [key(_MARKERS[kind], _QUIET, f"{kind} model" if kind == "learned" else kind) for kind in kinds]
    keys.append(Line2D([], [], color=_FRONT, linewidth=1.8, label="Pareto front"))
    axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(len(keys), 7), frameon=False, fontsize=9.5,
        handletextpad=0.3, columnspacing=1.4, borderaxespad=0.3,
    )  # fmt: skip


def _draw_controls(
    axes: Axes, rows: list[dict[str, Any]], cells: dict[str, Cell], colour_of: dict[str, str]
) -> list[Bbox]:
    """Dashed lines with their names at the right end; an arrow where the line lies outside. Returns what they cover."""
    taken: list[Bbox] = []
    bottom, top = axes.get_ylim()
    edge = axes.get_window_extent()
    for row in sorted(rows, key=lambda row: row["mean_return"]):
        cell, value = cells[row["name"]], row["mean_return"]
        colour = colour_of[cell.planner]
        text = f"{cell.label} {figure_text(value)}"
        inside = bottom <= value <= top
        if inside:
            axes.axhline(value, color=colour, linewidth=1.3, linestyle=(0, (5, 4)), zorder=1.5)
        else:
            text += " ↓" if value < bottom else " ↑"
        y = axes.transData.transform((1, min(max(value, bottom), top)))[1]
        # Above its line, or below it where there is no room or something else is written.
        for side, shift in (("bottom", 4), ("top", -4), ("bottom", 22), ("top", -22)):
            name = axes.annotate(
                text, (edge.x1, y), xycoords="figure pixels", xytext=(-6, shift), textcoords="offset points",
                ha="right", va=side, fontsize=9, color=colour, fontweight="bold", zorder=5,
            )  # fmt: skip
            name.set_in_layout(False)
            name.set_path_effects(_OUTLINE)
            box = name.get_window_extent()
            if edge.y0 <= box.y0 and box.y1 <= edge.y1 and not any(box.overlaps(other) for other in taken):
                break
            name.remove()
        else:
            continue
        taken.append(box)
    return taken


def _names(
    axes: Axes,
    rows: list[dict[str, Any]],
    cells: dict[str, Cell],
    colour_of: dict[str, str],
    front: list[str],
    taken: list[Bbox],
    lines: list[NDArray[np.float64]],
) -> None:
    """Writes what each cell is beside its point, where it covers the least; lines are corners in pixels (n, 2)."""
    points = {row["name"]: axes.transData.transform((row["milliseconds"]["p50"], row["mean_return"])) for row in rows}
    taken = taken + [_around(point, 13) for point in points.values()]
    # Words may cross a line rather than another's words.
    bars = [_around_both(*ends, 3) for line in lines for ends in pairwise(line)]
    for row in rows:
        low, high = row["interval"]
        if low is not None:
            x = row["milliseconds"]["p50"]
            (left, below), (right, above) = axes.transData.transform([(x, low), (x, high)])
            bars.append(_around_both((left, below), (right, above), 4))
    best = {cells[row["name"]].planner: row["name"] for row in reversed(rows)}
    searches = {cells[row["name"]].search for row in rows}
    for row in sorted(rows, key=lambda row: row["name"] not in front):
        cell = cells[row["name"]]
        if len(rows) > _MOST_LABELS and row["name"] not in front and row["name"] not in best.values():
            continue
        text = f"{cell.label} {cell.search}" if len(searches) > 1 else cell.label
        taken.append(_place(axes, text, points[row["name"]], colour_of[cell.planner], taken, bars))


def _place(axes: Axes, text: str, point: Any, colour: str, taken: list[Bbox], bars: list[Bbox]) -> Bbox:
    """Writes a name near a point, pixels (2,), where it covers the least of what is there; returns what it covers."""
    edge = axes.get_window_extent()
    style: dict[str, Any] = {"xycoords": "figure pixels", "textcoords": "offset points", "fontsize": 9, "color": colour}
    probe = axes.annotate(text, point, xytext=(0, 0), **style)
    size = np.array(probe.get_window_extent().size)
    probe.remove()
    best: tuple[float, tuple[float, float], dict[str, Any], int, Bbox] = (math.inf, (0, 0), {}, 0, edge)
    for ring, distance in enumerate((10, 22, 36, 52)):
        for turn in (0, 180, 45, -45, 135, -135, 90, -90):
            right, up = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            offset = distance * right, distance * up * 0.8
            side = ("left", 0.0) if right > 0.1 else ("right", 1.0) if right < -0.1 else ("center", 0.5)
            # Words that stand beside a point, not over it, sit at its height.
            height = ("center", 0.5) if abs(up) < 0.1 else ("bottom", 0.0) if up > 0 else ("top", 1.0)
            corner = point + np.array(offset) * _DPI / 72 - size * np.array((side[1], height[1]))
            box = Bbox([corner, corner + size])
            outside = box.width * box.height - _common(box, edge)
            cost = 5 * sum(_common(box, other) for other in taken) + sum(_common(box, bar) for bar in bars)
            cost += 20 * outside + 60 * ring + (turn not in (0, 180)) * 8
            if cost < best[0]:
                best = cost, offset, {"ha": side[0], "va": height[0]}, ring, box
    _, offset, aligned, ring, covered = best
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 5}
    name = axes.annotate(text, point, xytext=offset, zorder=5, arrowprops=line if ring else None, **style, **aligned)
    name.set_in_layout(False)
    name.set_path_effects(_OUTLINE)
    return covered


def _around_both(a: Any, b: Any, margin: float) -> Bbox:
    return Bbox([np.minimum(a, b) - margin, np.maximum(a, b) + margin])


def _around(point: Any, radius: float) -> Bbox:
    return _around_both(point, point, radius)


def _common(a: Bbox, b: Bbox) -> float:
    """Pixels that two boxes share."""
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else float(both.width * both.height)
