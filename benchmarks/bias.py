"""How much more the critic expects than is earned, where the search acts and where the policy prior does.

python benchmarks/bias.py                            # the agents that ship
python benchmarks/bias.py runs/walker-run-seed0

Beside the value of each action that was taken, the mean of the ensemble, stands what was earned from it to the end of
the episode, discounted. An episode that was cut off says little of its last decisions, so only those count after which
so much of it followed that what is missing weighs little.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

import envs
from agent import Agent
from agent.evaluation import bootstrap_interval, play
from agent.files import write_atomically
from preplay.actors import check_time_limit
from preplay.comparison.statistics import discounted_rest
from preplay.errors import UsageError, one_sentence
from preplay.provenance import provenance
from preplay.shipped import shipped

_CUT_OFF = 0.05  # the most that a reward after the cut may weigh, beside one at the decision


@dataclass(frozen=True)
class Bias:
    """Play episodes with the search and without, and set what was earned beside what the critic expected."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Of the agents; all that ship where none is named."""
    episodes: int = 5
    """Of each agent, with the search and without."""
    seed: int = 10_000
    """Of the first episode."""
    out: Path = Path("benchmarks/results/bias.json")
    """The result."""


class Watched:
    """Acts as an agent does, and notes what the critic expects of every action."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.values: list[float] = []

    def seed(self, seed: int) -> None:
        """See `Actor.seed`."""
        self.agent.seed(seed)

    def reset(self) -> None:
        """See `Actor.reset`."""
        self.agent.reset()

    def act(self, observation: ArrayLike) -> np.ndarray:
        """See `Actor.act`."""
        action: np.ndarray = self.agent.act(observation)
        model = self.agent.model
        with torch.inference_mode():
            latent = model.encode(torch.as_tensor(observation, dtype=torch.float32))
            self.values.append(float(model.action_value(latent.unsqueeze(0), torch.from_numpy(action).unsqueeze(0))))
        return action


def counted(length: int, terminated: bool, discount: float) -> int:
    """How many decisions of an episode of `length`, from the first on, are followed by all that matters.

    Those of an episode that was terminated are, up to its last one.
    """
    return length if terminated else max(length - int(np.ceil(np.log(_CUT_OFF) / np.log(discount))), 0)


def measure(folder: Path, planner: str | None, seeds: range) -> dict[str, Any]:
    """A row of the table.

    Args:
        folder: of the agent.
        planner: `policy` for the prior alone, None for the agent's own search.
        seeds: one an episode.

    Raises:
        UsageError: where no decision counts.
    """
    agent = Agent.load(folder, "cpu")
    if planner is not None:
        agent.use_planner(planner=planner)
    watched, discount = Watched(agent), agent.model.discount
    check_time_limit(envs.find(agent.info.task))
    with contextlib.closing(envs.make(agent.info.task, action_repeat=agent.info.action_repeat)) as env:
        episodes = play(watched, env, seeds)
    expected, earned, begun = [], [], 0
    for length, terminated in zip(episodes.lengths, episodes.terminated, strict=True):
        values, rewards = (each[begun : begun + length] for each in (watched.values, episodes.rewards))
        if count := counted(length, terminated, discount):
            expected.append(float(np.mean(values[:count])))
            earned.append(float(np.mean(discounted_rest(rewards, discount)[:count])))
        begun += length
    if not expected:
        raise UsageError(f"episodes of {agent.info.task} are too short to say what is earned after a decision")
    excess = np.subtract(expected, earned)
    return {
        "agent": folder.resolve().name,
        "task": agent.info.task,
        "planner": agent.planning.planner,
        "episodes": len(expected),
        "mean_return": episodes.mean_return,
        "expected": float(np.mean(expected)),
        "earned": float(np.mean(earned)),
        "excess": float(excess.mean()),
        "interval": bootstrap_interval(excess.tolist()),
    }


def main(options: Bias) -> None:
    """Plays, prints a table, and stores what was found."""
    if options.episodes < 1:
        raise UsageError("--episodes must be at least 1")
    torch.set_num_threads(1)
    seeds = range(options.seed, options.seed + options.episodes)
    folders = options.folders or tuple(shipped().values())
    rows = [measure(folder, planner, seeds) for folder in folders for planner in (None, "policy")]
    table = Table("agent", "planner", "return", "expected", "earned", "excess", "95 %", box=None, pad_edge=False)
    for row in rows:
        low, high = row["interval"]
        figures = [f"{row[name]:.1f}" for name in ("mean_return", "expected", "earned", "excess")]
        table.add_row(row["agent"], row["planner"], *figures, "" if low is None else f"{low:.1f} to {high:.1f}")
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps({"rows": rows} | provenance(), indent=1) + "\n").encode())


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Bias))
