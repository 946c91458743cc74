"""How near scoring candidates in the simulator comes to the bare rollouts of MuJoCo.

python benchmarks/simulator.py

Both roll the same candidates out from the same state of the same task, in rounds that take turns, so that a slow minute
of the machine falls on both alike. The bare rollout is one call of `mujoco.rollout` into arrays that are there already,
on the task's own model and without rewards; a score adds those, and what has to be measured for them. The share is the
median over rounds of the two times of one round.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import mujoco
import mujoco.rollout
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import envs
from agent.files import write_atomically
from envs.physics import physics
from envs.tasks import DMCONTROL
from preplay.errors import UsageError, one_sentence
from preplay.provenance import provenance


@dataclass(frozen=True)
class SimulatorSpeed:
    """Time scores of candidates in the simulator beside MuJoCo's bare rollouts."""

    tasks: tuple[str, ...] = ("cheetah-run", "walker-walk", "humanoid-walk")
    """Tasks of the DeepMind Control suite."""
    candidates: tuple[int, ...] = (97, 512)
    """How many are scored at once."""
    threads: tuple[int, ...] = (1, 2)
    """How many roll out at once."""
    horizon: int = 30
    """Decisions of a candidate."""
    rounds: int = 3
    """How many times each is measured, at least."""
    seconds: float = 10.0
    """How long each is measured, at least."""
    out: Path = field(default_factory=lambda: Path("benchmarks/results/simulator.json"))
    """Where the figures are written."""


def main(options: SimulatorSpeed) -> None:
    """Measures, prints a table and writes it down."""
    counts = (options.horizon, options.rounds, *options.candidates, *options.threads)
    if min(counts) < 1 or not (options.tasks and options.candidates and options.threads):
        raise UsageError("--horizon, --rounds, --candidates and --threads must be 1 or more; name at least one each")
    for task in options.tasks:
        if envs.find(task).family != DMCONTROL:
            raise UsageError(f"{task!r} is no task of the DeepMind Control suite; choose others")
    torch.set_num_threads(1)
    rows = [
        measure(task, candidates, threads, options)
        for task in options.tasks
        for candidates in options.candidates
        for threads in options.threads
    ]
    result = {"horizon": options.horizon, "rows": rows} | provenance()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode())
    show(result)


def measure(task: str, candidates: int, threads: int, options: SimulatorSpeed) -> dict[str, Any]:
    """Physics steps a second of both, and the share."""
    env = envs.make(task, seed=0)
    env.reset()
    with envs.Simulator(task, threads=threads) as simulator:
        state = simulator.snapshot(env)
        generator = torch.Generator().manual_seed(0)
        actions = torch.rand(1, candidates, options.horizon, simulator.action_dim, generator=generator) * 2 - 1
        score = simulator.score(state)
        raw, steps = bare_rollout(env, state, actions, threads)
        times: dict[str, list[float]] = {"raw": [], "score": []}
        raw()
        score(actions)
        end = time.perf_counter() + options.seconds
        while len(times["raw"]) < options.rounds or time.perf_counter() < end:
            runs = [("raw", raw), ("score", lambda: score(actions))]
            for name, run in runs if len(times["raw"]) % 2 == 0 else reversed(runs):
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
    env.close()
    shares = [raw / scored for raw, scored in zip(times["raw"], times["score"], strict=True)]
    return {
        "task": task,
        "candidates": candidates,
        "threads": threads,
        "physics_steps": steps,
        "raw_steps_per_second": steps / median(times["raw"]),
        "score_steps_per_second": steps / median(times["score"]),
        "rounds": len(shares),
        "share": median(shares),
        "quarters": np.percentile(shares, (25, 75)).tolist(),
    }


def bare_rollout(env: Any, state: Any, actions: torch.Tensor, threads: int) -> tuple[Callable[[], object], int]:
    """A call of `mujoco.rollout` for the same candidates, and how many physics steps it takes."""
    inside = physics(env)
    assert inside is not None
    model = inside[0]
    substeps = env.unwrapped._env._n_sub_steps * env.get_wrapper_attr("task").action_repeat
    control = np.repeat(actions[0].double().numpy(), substeps, axis=1)
    # One step more, as the score has to take for the sensors of the last state.
    control = np.ascontiguousarray(np.concatenate((control, control[:, -1:]), axis=1))
    rows, length, _ = control.shape
    rollout = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    start, warmstart = np.tile(state.physics, (rows, 1)), np.tile(state.warmstart, (rows, 1))
    states = np.empty((rows, length, state.physics.size))
    sensordata = np.empty((rows, length, model.nsensordata))

    def run() -> object:
        return rollout.rollout(
            [model] * rows,
            data,
            start,
            control,
            skip_checks=True,
            nstep=length,
            initial_warmstart=warmstart,
            state=states,
            sensordata=sensordata,
        )

    return run, rows * length


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    console.print(f"{result['machine']}, {os.getloadavg()[0]:.1f} processes busy")
    table = Table("task", "candidates", "threads", "raw steps/s", "score steps/s", "share", box=None, pad_edge=False)
    for row in result["rows"]:
        figures = f"{row['raw_steps_per_second']:,.0f}", f"{row['score_steps_per_second']:,.0f}", f"{row['share']:.0%}"
        table.add_row(row["task"], str(row["candidates"]), str(row["threads"]), *figures)
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(SimulatorSpeed))
