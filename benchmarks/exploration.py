"""How often noise alone finds a reward where rewards are sparse, by how much one decision's noise resembles the last.

python benchmarks/exploration.py

Nothing is learned: actions are the noise, clipped, as in the first episodes of a training run.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import envs
from agent.exploration import CorrelatedNoise
from agent.files import write_atomically
from preplay.actors import check_time_limit
from preplay.errors import UsageError, one_sentence
from preplay.provenance import provenance


@dataclass(frozen=True)
class Exploration:
    """Play episodes with noise for actions, and count those that met a reward."""

    tasks: tuple[str, ...] = ("cartpole-swingup-sparse", "finger-turn-hard", "hopper-hop", "reacher-hard")
    """Where."""
    times: tuple[float, ...] = (0.0, 4.0, 16.0)
    """Decisions after which all but 1/e of a deviate is forgotten; 0 for white noise."""
    episodes: int = 30
    """Of each; their seeds count from 0."""
    out: Path = Path("benchmarks/results/exploration.json")
    """The result."""


def returns(task: str, time: float, episodes: int) -> list[float]:
    """What episodes of noise return."""
    found = []
    with contextlib.closing(envs.make(task)) as env:
        shape = env.action_space.shape
        assert shape is not None
        noise, rng = CorrelatedNoise(shape[0], time, share=1.0), np.random.default_rng(0)
        for seed in range(episodes):
            env.reset(seed=seed)
            noise.begin(rng)
            total, over = 0.0, False
            while not over:
                _, reward, terminated, truncated, _ = env.step(noise.draw(rng).clip(-1, 1).astype(np.float32))
                total, over = total + float(reward), terminated or truncated
            found.append(round(total, 3))
    return found


def main(settings: Exploration) -> None:
    """Plays, prints a table, and stores what was found."""
    if settings.episodes < 1 or not all(0 <= time < 1e6 for time in settings.times):
        raise UsageError("episodes must be at least 1, and times at least 0")
    for task in settings.tasks:
        check_time_limit(envs.find(task))
    rows = [
        {"task": task, "time": time, "returns": returns(task, time, settings.episodes)}
        for task in settings.tasks
        for time in settings.times
    ]
    table = Table("task", "decisions", "episodes with a reward", "mean return", "best")
    for row in rows:
        found = np.array(row["returns"])
        share = f"{(found > 0).sum()} of {len(found)}"
        table.add_row(str(row["task"]), f"{row['time']:g}", share, f"{found.mean():.1f}", f"{found.max():.0f}")
    Console().print(table)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(settings.out, (json.dumps({"rows": rows, "provenance": provenance()}, indent=1) + "\n").encode())


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Exploration))
