"""Plays an agent's final evaluation again, with the planning of today's preset, and stores it with that planning.

python benchmarks/reevaluate.py checkpoints/cartpole-swingup

For agents that were trained with another search than the one that is recommended now. The weights stay as they are; the
card says how the agent planned while it learned, and how and when it was evaluated.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

import envs
from agent import Agent, configure_torch, describe, evaluate, preset
from agent.checkpoint import write_atomically
from agent.logs import plain
from preplay.card import read_metrics, write_card
from preplay.errors import one_sentence
from preplay.provenance import commit, provenance


@dataclass(frozen=True)
class Reevaluate:
    """Evaluate agents again with a preset's planning, and store them with it."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Of the agents."""
    preset: str = "small"
    """Whose planning."""


def main(options: Reevaluate) -> None:
    """Evaluates one agent after the other."""
    for folder in options.folders:
        reevaluate(folder, options.preset)


def reevaluate(folder: Path, name: str) -> None:
    """Plays the final evaluation's episodes, with and without the planner, and rewrites what the folder says of it."""
    agent = Agent.load(folder, "cpu")
    before, now = asdict(agent.config.planning), preset(name).planning
    agent.config = replace(agent.config, planning=now)
    agent.use_planner(now)
    configure_torch(agent.config)
    env = envs.make(agent.info.task, action_repeat=agent.info.action_repeat)
    first = agent.config.evaluation_seed
    seeds = range(first, first + agent.config.final_episodes)
    records = [record for record in read_metrics(folder) if record["kind"] != "final"]
    for planner in (now.planner, "policy"):
        result = evaluate(agent, env, seeds, planner=planner)
        print(f"{agent.info.task} {planner}: {result.mean_return:.1f} {result.interval}", flush=True)
        records.append(
            {
                "kind": "final",
                "step": agent.info.training["steps"],
                "planner": planner,
                "mean_return": result.mean_return,
                "interval": result.interval,
                "returns": result.returns,
                "lengths": result.lengths,
                "seeds": result.seeds,
                "milliseconds": result.percentiles(),
            }
        )
    env.close()
    changed = {key: x for key, x in before.items() if x != asdict(now)[key]}
    # What an earlier evaluation said of it still holds: it learned with that.
    agent.info.training["planning"] = changed | agent.info.training.get("planning", {})
    agent.info.training["evaluated"] = {"commit": commit(), "date": provenance()["date"]}
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(plain(record)) + "\n" for record in records).encode())
    agent.save(folder, half=describe(folder)["precision"] == "float16")
    write_card(folder)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Reevaluate))
