"""The outcome of a comparison as plain values: what `--json` prints, and what the page shows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import Agent, Episodes, PlanningConfig
from preplay.actors import POLICY
from preplay.comparison.cells import Cell
from preplay.comparison.statistics import MOST_ROWS, beats, front, matrix, row
from preplay.comparison.store import Key, joined
from preplay.simulated import LONG_SIGHTED, SIMULATOR


def summarise(
    settings: dict[str, Any],
    episodes: dict[Key, Episodes],
    asked: list[Cell],
    seeds: Sequence[int],
    left_out: dict[str, str],
) -> dict[str, Any]:
    """What was found.

    Every cell counts that has all episodes, those of earlier commands too; others are named as unfinished.

    Args:
        settings: of the comparison.
        episodes: all that were played.
        asked: cells that were asked for.
        seeds: of the episodes.
        left_out: cells that can't be, and why.
    """
    every = list(dict.fromkeys([*asked, *(cell for cell, _ in episodes)]))
    played = {cell: [episodes[cell, seed] for seed in seeds if (cell, seed) in episodes] for cell in every}
    discount = _discount(settings)
    rows = [
        row(cell, joined(each), discount, _horizon(cell, settings))
        for cell, each in played.items()
        if len(each) == len(seeds)
    ]
    rows.sort(key=lambda each: -each["mean_return"])
    prior = next((each for each in rows if each["cell"]["planner"] == POLICY), None)
    for each in rows:
        searches = prior is not None and not Cell(**each["cell"]).control
        each["over_policy"] = beats(each["returns"], prior["returns"]) if searches and prior is not None else None
    searching = [each for each in rows if not Cell(**each["cell"]).control]
    on = front([(each["milliseconds"]["p50"], each["mean_return"]) for each in searching])
    shown = matrix_rows(rows)
    return {
        "task": settings["fixed"]["task"],
        "episodes": len(seeds),
        "seed": seeds[0],
        "rows": rows,
        "front": [searching[i]["name"] for i in on],
        "matrix": {"names": [each["name"] for each in shown], "beats": matrix([each["returns"] for each in shown])},
        "discount": discount,
        "left_out": left_out,
        "unfinished": {cell.name: len(each) for cell, each in played.items() if len(each) < len(seeds)},
        "settings": settings,
    }


def matrix_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many rows as can be read, best first, the controls always among them."""
    if len(rows) <= MOST_ROWS:
        return rows
    controls = sum(Cell(**each["cell"]).control for each in rows)
    room = MOST_ROWS - controls
    shown = []
    for each in rows:
        if Cell(**each["cell"]).control:
            shown.append(each)
        elif room:
            shown.append(each)
            room -= 1
    return shown


def as_json(found: dict[str, Any]) -> str:
    """The text of `results.json`."""
    return json.dumps(found, indent=2) + "\n"


def _discount(settings: dict[str, Any]) -> float:
    """The agent's discount per decision; 1 where there is no agent."""
    if settings["checkpoint"] is None:
        return 1.0
    return float(Agent.load(Path(settings["checkpoint"]), "cpu").model.discount)


def _horizon(cell: Cell, settings: dict[str, Any]) -> int:
    """Decisions that a cell's plans look ahead."""
    if cell.horizon is not None:
        return cell.horizon
    if cell.model == SIMULATOR:
        return LONG_SIGHTED.horizon
    return int((settings["fixed"]["planning"] or {}).get("horizon", PlanningConfig.horizon))
