"""The report's text, in Markdown, from its content."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.study.tasks import HARD_8
from preplay.text import interval_text


def markdown(content: dict[str, Any], figures: Sequence[str]) -> str:
    """The report as a page of Markdown.

    Args:
        content: what `benchmarks.study.summary.summary` returns.
        figures: names of the pictures beside it.
    """
    ablations = [row for row in content["comparisons"] if row["kind"] == "ablation"]
    controls = [row for row in content["comparisons"] if row["kind"] == "control"]
    retired = content["retired"]
    parts = [
        "# The study",
        *_which(content["runs"]),
        "Made by `python -m benchmarks.study report` from the curves in this folder and from "
        "`benchmarks/reference/hard8.csv`. Steps are environment steps, action repeat included; returns are those of "
        "the agent as it was at those steps, no checkpoint was selected. On their way agents are evaluated on "
        f"{_counts(run['episodes_on_the_way'] for run in content['runs'])} episodes, the first of those that they are "
        f"evaluated on at their end, {_counts(run['episodes'] for run in content['runs'])}.",
        *(f"![{name.removesuffix('.png')}]({name})" for name in figures if name.startswith("curves")),
        *_main(content),
        "## Controls",
        "Pairs have the same task, training seed, steps and evaluation episodes; the difference is what the full agent "
        "has more. Where it was evaluated on its way, to more steps, both count the episodes that it had there. For "
        "TD-MPC2 its authors' mean stands in each pair, taken as given. Intervals are over training seeds: a task with "
        "one does not widen them, and with two they are no more than the range. Rows are of different tasks: compare "
        "within a row.",
        *_comparisons(controls),
        "## Ablations",
        *(f"![{name.removesuffix('.png')}]({name})" for name in figures if name.startswith("ablations")),
        *(_comparisons(ablations) if ablations else ["No ablation has been trained yet."]),
        *(["Not compared, since no variant has that name: " + ", ".join(retired) + "."] if retired else []),
        *_runs(content["runs"]),
    ]
    return "\n\n".join(parts) + "\n"


def _which(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Of which commits the agent is that is called preplay here."""
    full = [run for run in runs if run["variant"] == "full"]
    begun = [run["commit"] for run in full] + [sitting["commit"] for run in full for sitting in run["resumed"]]
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(begun) if commit)
    return [f"preplay (`full` below) was trained at these commits, by the commands below: {commits}."] if full else []


def _main(content: dict[str, Any]) -> list[str]:
    """Ours beside the published methods, wins and losses, and ours task by task."""
    steps, ours, missing = content["steps"], content["ours"], content["missing"]
    methods, common = content["methods"], content["common"]
    parts = [f"## Return at {steps:,} steps"]
    if missing:
        done = len(HARD_8) - len(missing)
        parts.append(f"{done} of the 8 tasks of hard-8 have been trained so far; not yet: {', '.join(missing)}.")
    columns: list[dict[str, float]] = [{task: row["mean"] for task, row in ours.items()}]
    columns += [method["returns"] for method in methods]
    names = ["**preplay**", *(method["name"] for method in methods)]
    updates = [_updates(content["runs"], steps), *(method["updates"] for method in methods)]
    means = [content["mean_over_common"], *(method["mean"] for method in methods)]
    best = {task: max((x[task] for x in columns if task in x), default=None) for task in HARD_8}
    top = max((x for x in means if x is not None), default=None)
    rows = [
        [name, update, *(_best(x.get(task), best[task]) for task in HARD_8), _best(average, top)]
        for name, update, x, average in zip(names, updates, columns, means, strict=True)
    ]
    over = "mean of all 8" if len(common) == len(HARD_8) else f"mean of the {len(common)} that all have"
    parts.append(_table(["method", "updates a decision", *HARD_8, over], rows))
    if methods and ours:
        rows = [
            [x["name"], _seeds(x["seeds"]), x["tasks"], x["wins"], x["losses"], _signed(x["difference"])]
            for x in methods
        ]
        headers = ["preplay against", "their seeds", "tasks", "wins", "losses", "mean difference"]
        parts += ["A win is a task on which preplay's mean is higher.", _table(headers, rows)]
    if ours:
        parts += _task_by_task(content)
    return parts


def _task_by_task(content: dict[str, Any]) -> list[str]:
    ours = content["ours"]
    rows = [
        [task, len(row["returns"]), row["episodes"], _number(row["mean"]), _spread(row["interval"]),
         row["interval_over"], " ".join(_number(x) for x in row["returns"].values()), _number(row["prior"])]
        for task, row in ours.items()
    ]  # fmt: skip
    headers = ["preplay on", "seeds", "episodes", "return", "95 % interval", "over", "each seed", "policy prior"]
    parts = [_table(headers, rows)]
    hard = [task for task in ours if task in HARD_8]
    if not hard:
        return parts
    few = [task for task in hard if len(ours[task]["returns"]) < 2]
    said = ", ".join(
        f"{name} {_number(content[key]['value'])} ({_spread(content[key]['interval'])})"
        for name, key in (("mean", "mean"), ("interquartile mean of all runs", "iqm"))
    )
    text = f"Over these {len(hard)} tasks of hard-8: {said}."
    if len(few) == len(hard):
        text += " Every task has one training seed, so there is no interval over seeds."
    else:
        text += " The intervals are over training seeds, drawn again within each task."
        if few:
            text += f" Tasks with one seed do not widen them: {', '.join(few)}."
        if any(len(ours[task]["returns"]) == 2 for task in hard):
            text += " With two seeds an interval is no more than their range."
    pooled = content["mean_pooled_interval"]
    if pooled is not None:
        text += (
            f" If seeds vary as much on every task, by the spread of those that there are, the mean lies between "
            f"{_number(pooled[0])} and {_number(pooled[1])} (95 % t-interval)."
        )
    return [*parts, text]


def _comparisons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table of comparisons, what each asks, and the pairs."""
    table = [
        [row["name"], f"{row['steps']:,}", len(row["tasks"]), len(row["pairs"]), _number(row["full"]),
         _number(row["other"]), _signed(row["difference"]), _spread(row["interval"]), row["better"], row["worse"]]
        for row in rows
        if row["pairs"]
    ]  # fmt: skip
    headers = ["full against", "steps", "tasks", "pairs", "full", "other", "difference", "95 % over seeds",
               "full better", "full worse"]  # fmt: skip
    asks = {row["name"]: row["asks"] for row in rows if row["pairs"]}
    pairs = [
        [row["name"], f"{row['steps']:,}", pair["task"], pair["seed"], pair["episodes"],
         *map(_number, (pair["full"], pair["other"])), _signed(pair["difference"])]
        for row in rows
        for pair in row["pairs"]
    ]  # fmt: skip
    parts = ["Nothing to compare has been trained yet."]
    if pairs:
        questions = "\n".join(f"- {name}: {question}" for name, question in asks.items())
        each = ["full against", "steps", "task", "seed", "episodes", "full", "other", "difference"]
        parts = [_table(headers, table), questions, _table(each, pairs)]
    alone = [f"{row['name']} {x['task']} seed {x['seed']} at {row['steps']:,}" for row in rows for x in row["alone"]]
    if alone:
        parts.append(f"The full agent has no run to pair with: {'; '.join(alone)}.")
    return parts


def _runs(runs: Sequence[dict[str, Any]]) -> list[str]:
    """How long each run took, and where it comes from."""
    speed = [
        [run["variant"], run["task"], run["seed"], f"{run['steps']:,}", _processor(run), _number(run["seconds"]),
         _number(run["milliseconds"], 1), _number(run["return"]), _number(run["prior"])]
        for run in runs
    ]  # fmt: skip
    origins = [
        [f"[{run['file']}]({run['file']})", f"`{run['command']}`", _commit(run), run["date"], run["machine"]]
        for run in runs
    ]
    headers = ["variant", "task", "seed", "steps", "begun on", "seconds", "ms a decision, p50", "return",
               "policy prior"]  # fmt: skip
    return [
        "## Speed",
        "Seconds hold evaluations, and are of one process with one thread, with others beside it; `overlapped` takes "
        "two threads. As far as a run was on a GPU, they are those of all that were trained together there.",
        _table(headers, speed),
        "## Where the curves come from",
        "A + marks a source tree with changes that were not committed.",
        _table(["curve", "command", "commit", "date", "machine"], origins),
    ]


def _processor(run: dict[str, Any]) -> str:
    """What kind of processor a run began on."""
    return "GPU" if "--device cuda" in run["command"] else "CPU"


def _commit(run: dict[str, Any]) -> str:
    """The commit a run began at, and those it went on at."""
    text = f"`{run['commit'] or 'not known'}{'+' if run['dirty'] else ''}`"
    return text + "".join(f", from {sitting['step']:,} `{sitting['commit']}`" for sitting in run["resumed"])


def _updates(runs: Sequence[dict[str, Any]], steps: int) -> str:
    """The updates a decision of our runs that the main table shows."""
    found = sorted({run["updates_per_decision"] for run in runs if run["variant"] == "full" and run["steps"] >= steps})
    return " and ".join(map(str, found)) or "–"


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _best(value: float | None, best: float | None) -> str:
    return f"**{_number(value)}**" if value is not None and value == best else _number(value)


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{round(value):+d}"


def _spread(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else interval_text(interval)


def _seeds(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _counts(counts: Iterable[int | None]) -> str:
    return " or ".join(map(str, sorted({count for count in counts if count is not None}))) or "none"
