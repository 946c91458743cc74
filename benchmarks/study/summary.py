"""Everything that the report says, as plain values, from curves and published returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.study import published, statistics
from benchmarks.study.curves import Curve
from benchmarks.study.published import METHODS, Published
from benchmarks.study.tasks import HARD_8
from benchmarks.study.variants import VARIANTS

TDMPC2 = "TD-MPC2, published"
Episodes = dict[tuple[str, int], list[float]]
"""Returns of evaluation episodes by task and training seed; the first of each have the same seeds."""


def summary(curves: Sequence[Curve], theirs: Published, steps: int) -> dict[str, Any]:
    """The report's content.

    Args:
        curves: what was taken in.
        theirs: published returns.
        steps: environment steps at which methods are compared.
    """
    ours = _ours(curves, steps)
    hard = {task: row for task, row in ours.items() if task in HARD_8}
    scores = [np.array(list(row["returns"].values())) for row in hard.values()]
    means = {task: row["mean"] for task, row in hard.items()}
    return {
        "steps": steps,
        "ours": ours,
        "missing": [task for task in HARD_8 if task not in ours],
        "mean": _value(scores, statistics.mean),
        "mean_pooled_interval": statistics.pooled_interval(scores),
        "iqm": _value(scores, statistics.interquartile_mean),
        **_methods(means, theirs, steps),
        "comparisons": [*_controls(curves, theirs, steps), *_variants(curves, "ablation")],
        "retired": sorted({curve.variant for curve in curves} - VARIANTS.keys()),
        "runs": [_run(curve) for curve in curves],
    }


def records_at(curves: Sequence[Curve], variant: str, steps: int) -> dict[tuple[str, int], dict[str, Any]]:
    """A variant's evaluations at exactly these steps, by task and seed.

    Those of runs that ended there, of ten episodes, come before those that longer runs made on their way.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for curve in sorted(curves, key=lambda curve: curve.steps != steps):
        record = curve.at(steps)
        if curve.variant == variant and record is not None:
            found.setdefault((curve.task, curve.seed), record)
    return dict(sorted(found.items()))


def _ours(curves: Sequence[Curve], steps: int) -> dict[str, dict[str, Any]]:
    """Task by task: the return for each seed, their mean, and what is known of its spread."""
    records, priors = records_at(curves, "full", steps), _priors(curves, steps)
    tasks = sorted({task for task, _ in records}, key=lambda task: (task not in HARD_8, task))
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        mine = {seed: record for (where, seed), record in records.items() if where == task}
        returns = {seed: float(record["mean_return"]) for seed, record in mine.items()}
        prior = [float(np.mean(x)) for (where, _), x in priors.items() if where == task]
        spread = statistics.interval([np.array(list(returns.values()))])
        if len(mine) == 1:
            low, high = next(iter(mine.values()))["interval"]
            spread = None if low is None else (low, high)
        rows[task] = {
            "returns": returns,
            "mean": float(np.mean(list(returns.values()))),
            "interval": spread,
            "interval_over": "seeds" if len(mine) > 1 else "evaluation episodes",
            "episodes": min(len(record["returns"]) for record in mine.values()),
            "prior": float(np.mean(prior)) if prior else None,
        }
    return rows


def _value(scores: list[np.ndarray], statistic: Any) -> dict[str, Any]:
    """A statistic of all runs with its interval over seeds; None where there is nothing to say."""
    if not scores:
        return {"value": None, "interval": None}
    return {"value": float(statistic(scores)), "interval": statistics.interval(scores, statistic)}


def _methods(ours: Mapping[str, float], theirs: Published, steps: int) -> dict[str, Any]:
    """The published methods beside ours, and the mean over the tasks that all have."""
    at = {method.key: published.at(theirs, method.key, steps) for method in METHODS}
    present = [method for method in METHODS if at[method.key]]
    common = [task for task in HARD_8 if task in ours and all(task in at[method.key] for method in present)]
    rows = []
    for method in present:
        returns = at[method.key]
        both = [task for task in HARD_8 if task in ours and task in returns]
        wins, losses = statistics.wins_and_losses(ours, returns)
        rows.append(
            {
                "key": method.key,
                "name": method.name,
                "updates": method.updates,
                "seeds": sorted({point.seeds for points in theirs[method.key].values() for point in points}),
                "returns": returns,
                "mean": _mean(returns, common),
                "wins": wins,
                "losses": losses,
                "tasks": len(both),
                "difference": _mean({task: ours[task] - returns[task] for task in both}, both),
            }
        )
    return {"methods": rows, "common": common, "mean_over_common": _mean(ours, common)}


def _mean(values: Mapping[str, float], tasks: Sequence[str]) -> float | None:
    return float(np.mean([values[task] for task in tasks])) if tasks else None


def _controls(curves: Sequence[Curve], theirs: Published, steps: int) -> list[dict[str, Any]]:
    """The full agent beside its policy prior, beside the other controls, and beside TD-MPC2."""
    rows = []
    for at in sorted({curve.steps for curve in curves if curve.variant == "full"}):
        name, asks = "policy prior at evaluation", "What does the planner add when the trained agent is evaluated?"
        rows.append(_beside(name, asks, "control", at, _episodes(curves, at), _priors(curves, at)))
    rows += _variants(curves, "control")
    full = _episodes(curves, steps)
    tdmpc2 = published.at(theirs, "tdmpc2", steps)
    other = {key: [tdmpc2[key[0]]] * len(episodes) for key, episodes in full.items() if key[0] in tdmpc2}
    if other:
        rows.append(_beside(TDMPC2, "Is it better than the method it follows?", "control", steps, full, other))
    return rows


def _variants(curves: Sequence[Curve], kind: str) -> list[dict[str, Any]]:
    """The full agent beside each variant of a kind, at the steps that the variant was trained for."""
    rows = []
    for variant in VARIANTS.values():
        if variant.kind != kind:
            continue
        for steps in sorted({curve.steps for curve in curves if curve.variant == variant.name}):
            full, other = _episodes(curves, steps), _episodes(curves, steps, variant.name)
            gone = f" It was taken out; commit {variant.until} is the last that trains it." if variant.until else ""
            rows.append(_beside(variant.name, variant.asks + gone, kind, steps, full, other))
    return rows


def _episodes(curves: Sequence[Curve], steps: int, variant: str = "full") -> Episodes:
    return {key: record["returns"] for key, record in records_at(curves, variant, steps).items()}


def _priors(curves: Sequence[Curve], steps: int) -> Episodes:
    """What the policy prior of the full agent returns at the end of runs of so many steps."""
    return {
        (curve.task, curve.seed): curve.prior["returns"]
        for curve in curves
        if curve.variant == "full" and curve.steps == steps
    }


def _beside(name: str, asks: str, kind: str, steps: int, full: Episodes, other: Episodes) -> dict[str, Any]:
    """One comparison: pairs with the same task and seed, and what the full agent has more.

    A run that went on was evaluated on fewer episodes there than one that ended; both count those that both have.
    """
    pairs: list[dict[str, Any]] = []
    for (task, seed), returns in other.items():
        if (task, seed) in full:
            episodes = min(len(returns), len(full[task, seed]))
            ours, theirs = (float(np.mean(x[:episodes])) for x in (full[task, seed], returns))
            pair = {"task": task, "seed": seed, "episodes": episodes}
            pairs.append(pair | {"full": ours, "other": theirs, "difference": ours - theirs})
    tasks = list(dict.fromkeys(pair["task"] for pair in pairs))

    def by_task(what: str) -> list[np.ndarray]:
        return [np.array([pair[what] for pair in pairs if pair["task"] == task]) for task in tasks]

    row: dict[str, Any] = {"name": name, "asks": asks, "kind": kind, "steps": steps, "tasks": tasks, "pairs": pairs}
    for what in ("full", "other", "difference"):
        row[what] = float(statistics.mean(by_task(what))) if pairs else None
    row["interval"] = statistics.interval(by_task("difference")) if pairs else None
    row["better"] = sum(pair["difference"] > 0 for pair in pairs)
    row["worse"] = sum(pair["difference"] < 0 for pair in pairs)
    row["alone"] = [{"task": task, "seed": seed} for task, seed in other if (task, seed) not in full]
    return row


def _run(curve: Curve) -> dict[str, Any]:
    """Where a curve comes from, how long it took, and how it ended."""
    ended = {
        "file": f"{curve.variant}/{curve.file.name}",
        "episodes_on_the_way": min((len(record["returns"]) for record in curve.evaluations), default=None),
        "episodes": len(curve.planned["returns"]),
        "return": curve.planned["mean_return"],
        "interval": curve.planned["interval"],
        "prior": curve.prior["mean_return"],
        "milliseconds": curve.planned["milliseconds"]["p50"],
    }
    return {key: x for key, x in curve.head.items() if key != "kind"} | ended
