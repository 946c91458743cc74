"""The card of a trained agent: what it is, how it was made, how well it does, where it ends."""

import json
from pathlib import Path
from typing import Any

from agent import CheckpointError, describe, logs
from agent.checkpoint import attach
from preplay.text import interval_text


def write_card(folder: Path) -> None:
    """Writes `CARD.md` into a run folder, from its `config.json`, which then lists it, and `metrics.jsonl`."""
    description = describe(folder)
    records = read_metrics(folder)
    attach(folder, "CARD.md", card(description, records).encode())


def _together(training: dict[str, Any]) -> list[str]:
    """What to say of an agent that others were trained beside, who share its time."""
    others, accelerator = training.get("together", 1) - 1, training.get("accelerator")
    beside = f"together with {others} other{'s' if others > 1 else ''}" if others else ""
    on = f"on one {accelerator}" if accelerator else ""
    return [f"- Trained {' '.join(filter(None, (beside, on)))}"] if others or accelerator else []


def _began_with(training: dict[str, Any]) -> list[str]:
    """What to say of an agent that did not begin with nothing."""
    given = training.get("given")
    return [f"- Began with {given:,} decisions of experience that were not its own"] if given else []


def _resumed(training: dict[str, Any]) -> list[str]:
    """What to say of a run that was interrupted."""
    sittings = training.get("resumed")
    if not sittings:
        return []
    steps = []
    for sitting in sittings:
        on = [sitting[key] for key in ("accelerator", "machine") if key in sitting]
        steps.append(f"{sitting['step']:,}" + (f" (on {', '.join(on)})" if on else ""))
    return [f"- Interrupted, and resumed from what was saved at step {', '.join(steps)}"]


def _commit(commit: str | None) -> str:
    """What to say of the commit that an agent was made at."""
    changed = " with changes that were not committed" if commit is not None and commit.endswith("+") else ""
    return f"`{commit}`{changed}"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`; what is no record, such as a torn last line, is left out.

    Raises:
        CheckpointError: when there is no such file.
    """
    file = folder / logs.FILE
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} lacks its {logs.FILE}; put back the file as it was") from None
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and "kind" in record:
            records.append(record)
    return records


def card(description: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """The card's text."""
    training, config = description["training"], description["config"]
    hours = training.get("seconds_with_final_evaluation", 0) / 3600
    timed_on = (training.get("resumed") or [training])[-1].get("accelerator")
    threads = "one thread" if config["threads"] == 1 else f"{config['threads']} threads"
    final = [r for r in records if r["kind"] == "final"]
    curve = [r for r in records if r["kind"] == "evaluation"]
    lines = [
        f"# {description['task']}",
        "",
        f"A preplay agent: a latent world model with {config['model']['latent_dim']} latent dimensions, planned in "
        f"with {config['planning']['planner'].upper()}. `preplay run {description['task']} --checkpoint FOLDER` plays "
        "it, where FOLDER is the one that this card lies in.",
        "",
        f"- Command: `{training.get('command')}`",
        f"- Commit: {_commit(training.get('commit'))}, {training.get('date')}; defaults change, so at another one the "
        "command may train another agent",
        f"- Environment steps: {training.get('steps'):,}, action repeat {description['action_repeat']} included "
        f"({training.get('steps') // description['action_repeat']:,} decisions); seed {config['seed']}",
        f"- Time: {hours:.2f} hours, evaluations included, with {threads} on {training.get('machine')}, "
        f"matrix products at torch's {config['matmul_precision']!r} precision",
        f"- Weights: {description['precision']}, as they were evaluated below",
        *_together(training),
        *_began_with(training),
        *_resumed(training),
        "",
        "## Return",
        "",
    ]
    if final:
        seeds = final[0]["seeds"]
        lines += [
            f"{len(seeds)} episodes, the same for every row (seeds {seeds[0]} to {seeds[-1]}), after the last step of "
            "training; no checkpoint was selected.",
            "",
            "| planner | mean return | 95 % interval | each episode | ms a decision, p50"
            f"{f', on {timed_on}' if timed_on else ''} |",
            "|---|---|---|---|---|",
        ]
        for r in final:
            spread = interval_text(r["interval"])
            each = " ".join(f"{x:.0f}" for x in r["returns"])
            name = "off (policy prior)" if r["planner"] == "policy" else r["planner"]
            p50 = r["milliseconds"]["p50"]
            lines.append(f"| {name} | {r['mean_return']:.1f} | {spread} | {each} | {p50:.1f} |")
        lines.append("")
        planned, prior = (next((r for r in final if (r["planner"] == "policy") == off), None) for off in (False, True))
        if planned and prior and planned["mean_return"] < prior["mean_return"]:
            high, low = planned["interval"][1], prior["interval"][0]
            did = "did worse" if None not in (high, low) and high < low else "did no better"
            lines += [f"The planner {did} here than the policy prior alone.", ""]
    if curve:
        lines += [
            "While it learned: " + ", ".join(f"{r['mean_return']:.0f} at {r['step']:,}" for r in curve) + " steps "
            f"({len(curve[0]['returns'])} episodes each).",
            "",
        ]
    lines += [
        "## Limits",
        "",
        "One training seed: another may do better or worse, and the interval speaks of evaluation episodes alone. The "
        "agent knows this task's observations, reward and physics only; it has met no disturbance, delay or noise, and "
        "it was never meant for a real robot.",
        "",
    ]
    return "\n".join(lines)
