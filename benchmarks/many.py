"""How much faster many agents train in one process than one does alone, on the same device.

python -m benchmarks.many --agents 16 --device cuda --preset base --save
python -m benchmarks.many --agents 4 --preset tiny --decisions 100

It has been run on a CPU only, where there is little to gain: one call over stacked parameters saves the overhead of
many, and a CPU that is busy with one agent is no less busy with sixteen. On a GPU, which it was made for, it has not
been run yet.

One agent trains as `preplay train` does, then so many together as `preplay train --tasks --seeds` does, in processes of
their own, `--rounds` times in turn. Each begins with random decisions and the updates for them (`--random-steps`, and
settling); what is timed are the `--decisions` of every agent after those, with everything that belongs to training but
evaluation and saving.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

# One thread for each thing at once, set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tyro
from rich.console import Console
from rich.table import Table

import envs
from agent import PRESETS, Progress, TrainConfig, Trainer, TrainingStopped
from agent.agent import choose_device
from agent.checkpoint import write_atomically
from agent.config import to_dict
from agent.many import Together
from benchmarks.training import spread
from preplay.errors import UsageError, one_sentence
from preplay.provenance import provenance
from preplay.remote import Worlds
from preplay.train import agent_info

SETTLING = 50  # decisions between the random ones and those that are timed


@dataclass(frozen=True)
class Many:
    """Time the training of many agents together, and of one alone, in processes that alternate."""

    agents: int = 16
    """How many train together."""
    tasks: tuple[str, ...] = ("walker-run",)
    """What they are trained on, in turn; the one that is alone takes the first."""
    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the agent. Any setting of training can be given, too."""
    decisions: int = 400
    """How many are timed of each agent, at least."""
    rounds: int = 1
    """How many times each is measured."""
    workers: int | None = None
    """Processes that step the worlds of the many. By default one a core."""
    save: bool = False
    """Write the figures to benchmarks/results/many, into a file named after the device and how many they were."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def defaults(arguments: list[str]) -> Many:
    """The defaults are the preset's, so it has to be known before other options."""
    words = " ".join(arguments).replace("--preset=", "--preset ").split()
    name = words[words.index("--preset") + 1] if "--preset" in words[:-1] else "small"
    # A name that doesn't exist is refused later, when all options are read.
    return Many(config=replace(PRESETS.get(name, TrainConfig()), random_steps=500))


def main(options: Many) -> None:
    """Measures, prints a table and, where it is asked to, writes it down."""
    if min(options.agents, options.decisions, options.rounds) < 1 or not options.tasks:
        raise UsageError("--agents, --decisions and --rounds must be at least 1, and --tasks must name one")
    if options.config.overlap or options.config.offline:
        raise UsageError("--overlap and --offline are of one run; they don't go with many")
    device = choose_device(options.config.device)
    found: dict[int, list[float]] = {count: [] for count in (1, options.agents)}
    for _ in range(options.rounds):
        for count, speeds in found.items():
            # A process that has just begun, each time.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                speeds.append(pool.submit(measure, options, count).result())
    alone = found[1]
    rows = [
        {
            "agents": count,
            "steps_per_second": spread(speeds),
            "ratio": spread([each / one for each, one in zip(speeds, alone, strict=True)]),
        }
        for count, speeds in found.items()
    ]
    what = {"tasks": options.tasks, "preset": options.preset, "decisions": options.decisions, "device": device.type}
    result: dict[str, Any] = what | {"accelerator": accelerator(), "rows": rows, "config": to_dict(options.config)}
    result |= provenance()
    show(result)
    if options.save:
        out = Path("benchmarks/results/many") / f"{device.type}-{options.preset}-{options.agents}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, (json.dumps(result, indent=2) + "\n").encode())


def accelerator() -> str | None:
    """The GPU's name; None where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def measure(options: Many, count: int) -> float:
    """Trains so many agents for a while; environment steps a second of all of them, after the warm-up."""
    tasks = [options.tasks[i % len(options.tasks)] for i in range(count)]
    config = replace(options.config, steps=10**9, evaluate_every=0, save_every=1e9)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(TrainingStopped))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if count == 1:
            env, evaluation_env = (envs.make(tasks[0]) for _ in "ab")
            clock = Clock([env.get_wrapper_attr("task").action_repeat], config, options.decisions)
            info = agent_info(env.get_wrapper_attr("task"), envs.winding_angles(evaluation_env), {})
            clock.trainers = [Trainer(env, evaluation_env, config, info, folder / "0", partial(clock.tick, 0))]
            with contextlib.suppress(TrainingStopped):
                clock.trainers[0].run()
            return clock.speed
        worlds = stack.enter_context(Worlds([(partial(envs.make, task),) * 2 for task in tasks], options.workers))
        known = [env.get_wrapper_attr("task") for env, _ in worlds.envs]
        clock = Clock([task.action_repeat for task in known], config, options.decisions)
        together = Together(count)
        for i, (task, (env, evaluation_env)) in enumerate(zip(known, worlds.envs, strict=True)):
            info = agent_info(task, evaluation_env.apply(envs.winding_angles), {})
            seeded, show = replace(config, seed=config.seed + i), partial(clock.tick, i)
            clock.trainers.append(Trainer(env, evaluation_env, seeded, info, folder / str(i), show, together.engine(i)))
        for outcome in together.run([trainer.run for trainer in clock.trainers], config.threads):
            if outcome.error is not None and not isinstance(outcome.error, TrainingStopped):
                raise outcome.error
        return clock.speed


class Clock:
    """Times agents from when the last of them has settled until each has taken so many decisions, and stops them.

    Attributes:
        trainers: of the agents; to be filled before they run.
        speed: environment steps a second of all together, in the end.
    """

    def __init__(self, repeats: list[int], config: TrainConfig, decisions: int) -> None:
        self.trainers: list[Trainer] = []
        self.speed = 0.0
        self._repeats, self._decisions = repeats, decisions
        self._begin = [config.random_steps + SETTLING * repeat for repeat in repeats]
        self._steps = [0] * len(repeats)
        self._began: tuple[float, list[int]] | None = None
        self._lock = threading.Lock()

    def tick(self, number: int, progress: Progress) -> None:
        """An agent tells how far it is."""
        if progress.phase != "collect":
            return
        with self._lock:
            now = time.perf_counter()
            self._steps[number] = progress.step
            if self._began is None:
                if all(step >= begin for step, begin in zip(self._steps, self._begin, strict=True)):
                    self._began = now, list(self._steps)
                return
            began, steps = self._began
            taken = [step - before for step, before in zip(self._steps, steps, strict=True)]
            if not self.speed and all(
                step >= self._decisions * repeat for step, repeat in zip(taken, self._repeats, strict=True)
            ):
                self.speed = sum(taken) / (now - began)
                for trainer in self.trainers:
                    trainer.stop()


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    sizes = f"{', '.join(result['tasks'])}, {result['preset']}: {result['decisions']} decisions of each agent"
    console.print(f"{result['accelerator'] or 'no GPU'}; {result['machine']}\n{sizes}, on {result['device']}")
    table = Table("agents", "steps/s together", "steps/s each", "times one alone", "lowest", "highest", box=None)
    for row in result["rows"]:
        speed, ratio = row["steps_per_second"]["median"], row["ratio"]
        table.add_row(
            str(row["agents"]),
            f"{speed:.1f}",
            f"{speed / row['agents']:.1f}",
            *(f"{ratio[key]:.2f}" for key in ("median", "min", "max")),
        )
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Many, default=defaults(sys.argv[1:]), config=(tyro.conf.FlagCreatePairsOff,)))
