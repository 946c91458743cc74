"""Curves and finished runs without training."""

import json
from dataclasses import replace

from agent import Agent, AgentInfo
from benchmarks.study import variants

MILLISECONDS = {"p50": 9.0, "p95": 10.0, "p99": 11.0}


def record(kind, step, mean, planner="mppi", episodes=3):
    values = {"kind": kind, "step": step, "planner": planner, "mean_return": mean, "interval": [mean - 5, mean + 5]}
    return values | {"returns": [mean] * episodes, "seeds": list(range(episodes)), "milliseconds": MILLISECONDS}


def records(steps, last, prior):
    """Evaluations every 10,000 steps, from nothing to `last` evenly, and the two at the end."""
    evaluations = [record("evaluation", step, last * step / steps) for step in range(10_000, steps, 10_000)]
    return [*evaluations, record("final", steps, last, episodes=10), record("final", steps, prior, "policy", 10)]


def save_curve(results, task, last, seed=0, variant="full", steps=100_000, prior=0.0):
    """A curve as it is taken in."""
    head = {"kind": "run", "task": task, "seed": seed, "variant": variant, "steps": steps, "dirty": False}
    head |= {"command": f"preplay train {task}", "commit": "abc", "resumed": [], "date": "2026-01-01", "machine": "m"}
    head |= {"versions": {}, "seconds": 60.0, "updates_per_decision": 1}
    known = variants.VARIANTS.get(variant)
    if known is not None and known.until is None:
        head["settings"] = variants.fingerprint(variants.configuration(known))
    file = results / variant / f"{task}-seed{seed}-{steps}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in (head, *records(steps, last, prior))))
    return file


def save_run(folder, variant="full", task="walker-run", steps=30_000, finished=True, seed=0, action_repeat=2, given=0):
    """A run folder with what is taken in from it."""
    config = replace(variants.configuration(variants.find(variant)), device="cpu", seed=seed, steps=steps)
    training = {"command": f"preplay train {task} --out {folder}", "commit": "abc+", "steps": steps, "seconds": 1.0}
    training |= {"seconds_with_final_evaluation": 2.0, "machine": "m", "date": "2026-01-01", "versions": {"torch": "2"}}
    training |= {"given": given} if given else {}
    Agent(config, 24, 6, AgentInfo(task, action_repeat, 500, False, (), training), "cpu").save(folder, half=True)
    lines = [{"kind": "episode", "step": 1000, "return": 1.0}, *records(steps, 90.0, 60.0)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in (lines if finished else lines[:2])))
    return folder
