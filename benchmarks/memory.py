"""What another agent's experience is worth: learning curves with and without it.

python benchmarks/memory.py --add runs/FRESH runs/RECALLED   # takes the curves of finished or stopped runs in
python benchmarks/memory.py                                  # draws the picture and the table from what was taken in

The runs themselves are made by `preplay train`; every curve in `benchmarks/results/memory` begins with the command and
the commit that made it.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agent import describe
from agent.files import write_atomically
from preplay.card import read_metrics
from preplay.errors import UsageError, one_sentence
from preplay.text import file_name

_FRESH, _RECALLED = "fresh", "recalled"
_LABELS = {_FRESH: "began with nothing", _RECALLED: "began with another agent's experience"}
_COLOURS = {_FRESH: "#8a94a3", _RECALLED: "#12507b"}
# Of the return that the fresh agent ends with.
_SHARES = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Memory:
    """Compare agents that began with another agent's experience with agents that began with nothing."""

    add: tuple[Path, ...] = ()
    """Run folders whose curves to take in."""
    results: Path = Path("benchmarks/results/memory")
    """Where curves, table and picture are."""


def take_in(run: Path, results: Path) -> None:
    """Copies a run's curve: a line that says where it comes from, and its evaluations."""
    description = describe(run)
    given = description["training"].get("given", 0)
    records = [record for record in read_metrics(run) if record["kind"] in ("evaluation", "final")]
    if not any(record["planner"] != "policy" for record in records):
        raise UsageError(f"the run in {str(run)!r} has not been evaluated with a planner yet")
    training = {key: description["training"].get(key) for key in ("command", "commit", "date", "machine", "versions")}
    task, seed = description["task"], description["config"]["seed"]
    kind = _RECALLED if given else _FRESH
    head = {"kind": "run", "task": task, "begins": kind, "seed": seed, "given": given} | training
    name = f"{file_name(task)}-{kind}-seed{seed}.jsonl"
    results.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) for record in (head, *records)]
    write_atomically(results / name, ("\n".join(lines) + "\n").encode())


def read_curves(results: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All curves by task, and by how their runs began; each is a run's head with its evaluations under `curve`."""
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in sorted(results.glob("*.jsonl")):
        try:
            head, *records = (json.loads(line) for line in file.read_text().splitlines())
            head["curve"] = [record for record in records if record["planner"] != "policy"]
            curves.setdefault(head["task"], {}).setdefault(head["begins"], []).append(head)
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{str(file)!r} is no curve; take the run in again, or remove it") from None
    return curves


def steps_to(curve: list[dict[str, Any]], level: float) -> int | None:
    """Environment steps at the first evaluation that reaches a return; None when none does."""
    return next((record["step"] for record in curve if record["mean_return"] >= level), None)


def compare(curves: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """For each task and seed that has both curves: the steps that both needed to shares of the fresh one's last return.

    Where the fresh agent ended with nothing, the level is half of what the other one ended with.
    """
    rows = []
    for task, kinds in curves.items():
        for fresh in kinds.get(_FRESH, []):
            for recalled in kinds.get(_RECALLED, []):
                if recalled["seed"] != fresh["seed"]:
                    continue
                last = fresh["curve"][-1]
                nothing = last["mean_return"] < 1
                base = recalled["curve"][-1]["mean_return"] if nothing else last["mean_return"]
                for share in (0.5,) if nothing else _SHARES:
                    level = share * base
                    needed = {
                        "fresh": steps_to(fresh["curve"], level),
                        "recalled": steps_to(recalled["curve"], level),
                        "fresh_played": last["step"],
                    }
                    rows.append({"task": task, "seed": fresh["seed"], "level": level} | needed)
    return rows


def draw(curves: dict[str, dict[str, list[dict[str, Any]]]], file: Path) -> None:
    """The learning curves, a panel for each task."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(5.5 * len(curves), 3.6), layout="constrained")
        for i, (task, kinds) in enumerate(curves.items()):
            axes = figure.add_subplot(1, len(curves), i + 1)
            _panel(axes, task, kinds, first=i == 0)
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=2, frameon=False)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=150, facecolor="white")
    write_atomically(file, drawn.getvalue())


def _panel(axes: Axes, task: str, kinds: dict[str, list[dict[str, Any]]], first: bool) -> None:
    axes.set_title(task, loc="left", fontweight="bold", fontsize=12)
    for kind in (_FRESH, _RECALLED):
        for run in kinds.get(kind, []):
            steps = [record["step"] / 1000 for record in run["curve"]]
            means = [record["mean_return"] for record in run["curve"]]
            spread = [record["interval"] for record in run["curve"]]
            bounds = [
                [mean if pair[side] is None else pair[side] for mean, pair in zip(means, spread, strict=True)]
                for side in (0, 1)
            ]
            axes.fill_between(steps, *bounds, color=_COLOURS[kind], alpha=0.18, linewidth=0)
            axes.plot(steps, means, color=_COLOURS[kind], linewidth=2, marker="o", markersize=3.5, label=_LABELS[kind])
    axes.set_ylim(-20, 1000)
    axes.set_xlim(left=0)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("environment steps of its own, thousands", fontsize=9)
    if first:
        axes.set_ylabel("return, mean of the evaluation", fontsize=9)


def main(options: Memory) -> None:
    """Takes runs in, and makes everything anew from the curves that are there."""
    for run in options.add:
        take_in(run, options.results)
    curves = read_curves(options.results)
    if not curves:
        raise UsageError(f"there are no curves in {str(options.results)!r}; take some in with --add RUN")
    rows = compare(curves)
    write_atomically(options.results / "steps.json", (json.dumps(rows, indent=2) + "\n").encode())
    draw(curves, options.results / "curves.png")
    print("| task | seed | return | steps from nothing | steps with another agent's experience |")
    print("|---|---|---|---|---|")
    for row in rows:
        fresh = f"{row['fresh']:,}" if row["fresh"] else f"more than {row['fresh_played']:,}"
        recalled = "–" if row["recalled"] is None else f"{row['recalled']:,}"
        print(f"| {row['task']} | {row['seed']} | {row['level']:.0f} | {fresh} | {recalled} |")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Memory))
