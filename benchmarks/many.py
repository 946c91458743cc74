"""How fast many agents train at once on one device.

python -m benchmarks.many --agents 16 --device cuda --save
python -m benchmarks.many --agents 2 --preset tiny --decisions 50 --device cpu

Each count of agents trains as `preplay train --tasks --seeds` does, one after the other. They begin with random
decisions and the updates for them; what is timed are the `--decisions` of every agent after those, with everything that
belongs to training but evaluation and saving, and the time to compile, which is given apart.
"""

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

# One thread for each thing at once, set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import tyro
from rich.console import Console
from rich.table import Table

import envs
from agent import PRESETS, Progress, TrainConfig, Trainer, TrainingStopped, configure_torch
from agent.agent import choose_device
from agent.config import to_dict
from agent.files import write_atomically
from agent.many import Post, Together
from preplay.errors import UsageError, one_sentence
from preplay.options import value_of
from preplay.provenance import provenance
from preplay.train import agent_info, environments

SETTLING = 50  # decisions between the random ones and those that are timed


@dataclass(frozen=True)
class Many:
    """Time the training of agents together."""

    agents: tuple[int, ...] = (1, 16)
    """How many train together, each count by itself."""
    tasks: tuple[str, ...] = ("walker-run",)
    """What they are trained on, in turn."""
    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the agent. Any setting of training can be given, too."""
    decisions: int = 400
    """How many are timed of each agent, at least."""
    save: bool = False
    """Write the figures to benchmarks/results/many, into a file named after the device."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def defaults(arguments: list[str]) -> Many:
    """The defaults are the preset's, so it has to be known before other options."""
    name = value_of(arguments, "--preset") or "small"
    # A name that doesn't exist is refused later, when all options are read.
    return Many(config=replace(PRESETS.get(name, TrainConfig()), random_steps=500))


def main(options: Many) -> None:
    """Measures, prints a table and, where it is asked to, writes it down."""
    if not options.agents or min(*options.agents, options.decisions) < 1 or not options.tasks:
        raise UsageError("--agents and --decisions must be at least 1, and --tasks must name one")
    if options.config.overlap or options.config.offline or options.config.compile:
        raise UsageError("--overlap, --offline and --compile are of one run; they don't go with many")
    device = choose_device(options.config.device)
    configure_torch(options.config)
    what = {"tasks": options.tasks, "preset": options.preset, "decisions": options.decisions, "device": device.type}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    result: dict[str, Any] = what | {"accelerator": name, "config": to_dict(options.config)} | provenance()
    result["rows"] = [measure(options, count, device) for count in options.agents]
    show(result)
    if options.save:
        out = Path("benchmarks/results/many") / f"{device.type}-{options.preset}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())


@dataclass(frozen=True)
class Life:
    """A run that tells how far it is until it is stopped."""

    task: str
    config: TrainConfig
    folder: Path

    def __call__(self, post: Post) -> None:
        """Trains until it is stopped."""
        with environments(self.task) as (env, evaluation_env):
            task = env.get_wrapper_attr("task")
            info = agent_info(task, envs.winding_angles(evaluation_env), {})

            def tell(progress: Progress) -> None:
                if progress.phase == "collect":
                    post.tell((progress.step, task.action_repeat))

            trainer = Trainer(env, evaluation_env, self.config, info, self.folder, tell, post.engine)
            post.on_stop(trainer.stop)
            with contextlib.suppress(TrainingStopped):
                trainer.run()


def measure(options: Many, count: int, device: torch.device) -> dict[str, float]:
    """Trains so many agents for a while.

    Returns:
        How many they were, environment steps a second of all of them after the warm-up, and the seconds before it.
    """
    config = replace(options.config, steps=10**9, evaluate_every=0, save_every=1e9, device="cpu")
    with TemporaryDirectory() as folder:
        lives = [
            Life(options.tasks[i % len(options.tasks)], replace(config, seed=config.seed + i), Path(folder) / str(i))
            for i in range(count)
        ]
        clock = Clock(count, config.random_steps, options.decisions)
        together = Together(lives, config, device, lambda number, told: clock.tick(number, *told) and together.stop())
        for outcome in together.run():
            if outcome.error is not None:
                raise outcome.error
    return {"agents": count, "steps_per_second": clock.speed, "seconds_before": clock.seconds_before}


class Clock:
    """Times agents from when the last of them has settled until each has taken so many decisions.

    Attributes:
        speed: environment steps a second of all together, in the end.
        seconds_before: what was timed began.
    """

    def __init__(self, count: int, random_steps: int, decisions: int) -> None:
        self.speed = self.seconds_before = 0.0
        self._random_steps, self._decisions, self._made = random_steps, decisions, time.perf_counter()
        self._steps: list[tuple[int, int]] = [(0, 1)] * count
        self._began: tuple[float, list[int]] | None = None

    def tick(self, number: int, step: int, repeat: int) -> bool:
        """An agent tells how far it is; whether all have come far enough."""
        now = time.perf_counter()
        self._steps[number] = step, repeat
        if self._began is None:
            if all(step >= self._random_steps + SETTLING * repeat for step, repeat in self._steps):
                self._began = now, [step for step, _ in self._steps]
                self.seconds_before = now - self._made
            return False
        began, first = self._began
        taken = [step - before for (step, _), before in zip(self._steps, first, strict=True)]
        if self.speed or any(n < self._decisions * repeat for n, (_, repeat) in zip(taken, self._steps, strict=True)):
            return False
        self.speed = sum(taken) / (now - began)
        return True


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    sizes = f"{', '.join(result['tasks'])}, {result['preset']}: {result['decisions']} decisions of each agent"
    console.print(f"{result['accelerator'] or 'no GPU'}; {result['machine']}\n{sizes}, on {result['device']}")
    table = Table("agents", "steps/s together", "steps/s each", "times the first row", "seconds before", box=None)
    first = result["rows"][0]["steps_per_second"]
    for row in result["rows"]:
        speed = row["steps_per_second"]
        each = f"{speed / row['agents']:.1f}"
        table.add_row(str(row["agents"]), f"{speed:.1f}", each, f"{speed / first:.2f}", f"{row['seconds_before']:.0f}")
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Many, default=defaults(sys.argv[1:]), config=(tyro.conf.FlagCreatePairsOff,)))
