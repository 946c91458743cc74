"""Kills training again and again, resumes it each time, and compares what comes out with an undisturbed run.

python benchmarks/kills.py

Every process is killed with SIGKILL at a random moment, wherever it is: in a plan, in an update, in an evaluation, in
the middle of saving. Runs save their state as often as they can, so that many kills fall into that.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

# One thread a process, set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import tyro
from safetensors import safe_open

import envs
from agent import AgentInfo, Experience, TrainConfig, Trainer, preset, resume
from agent.files import write_atomically
from preplay.errors import one_sentence
from preplay.provenance import provenance

# What depends on the clock in metrics.jsonl.
_TIMES = {"seconds", "milliseconds", "milliseconds_per_plan", "steps_per_second"}


@dataclass(frozen=True)
class Kills:
    """Kill training runs at random moments, and see whether they come out as they would have."""

    task: str = "cartpole-swingup"
    """A task of the DeepMind Control suite, or of Gymnasium."""
    steps: int = 480
    """Environment steps of each run, the tiny preset's."""
    episode_steps: int = 100
    """Environment steps of an episode."""
    kills: int = 200
    """How many in all."""
    share: float = 0.4
    """A process trains at most for this share of the time that an undisturbed run takes; how long, is drawn evenly."""
    seed: int = 0
    """Of the moments."""
    out: Path = Path("benchmarks/results/kills.json")
    """Where to write what was found."""


@dataclass(frozen=True)
class Run:
    """A training run that any process can start or go on with.

    Attributes:
        make: makes its environment.
        info: what its agent is for.
        config: everything that can be set.
        folder: where it is stored.
    """

    make: Callable[[], gymnasium.Env[Any, Any]]
    info: AgentInfo
    config: TrainConfig
    folder: Path

    def go(self, begun: Any) -> None:
        """Trains to the end, from wherever the run was saved last; `begun` is an event to set first."""
        begun.set()
        Trainer.SAVING_SHARE = 1.0  # as often as can be
        if not resume.exists(self.folder):
            # Killed before it was saved for the first time: there is nothing to go on from.
            shutil.rmtree(self.folder, ignore_errors=True)
            self._trainer().run()
        elif not resume.read(self.folder).moment.finished:
            self._trainer().resume()

    def _trainer(self) -> Trainer:
        return Trainer(self.make(), self.make(), self.config, self.info, self.folder)


def kill(run: Run, kills: int, share: float, moments: random.Random) -> dict[str, Any]:
    """Kills runs like this one until there have been enough kills, and compares each with an undisturbed one.

    Args:
        run: its folder becomes the folder of them all.
        kills: how many.
        share: of the undisturbed run's time, after which a process is killed at the latest.
        moments: where their randomness comes from.

    Returns:
        How many kills there were, in how many runs, how many of them before anything was saved, and all `differences`.

    Raises:
        RuntimeError: when a process fails otherwise than by being killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["agent.trainer", "torch.utils.tensorboard", "envs", run.go.__module__])

    def alive(one: Run, seconds: float | None) -> bool:
        """Lets a process train for a while; whether it was still at it, and was killed."""
        begun = context.Event()
        process = context.Process(target=one.go, args=(begun,))
        process.start()
        begun.wait()
        process.join(seconds)
        was_alive = process.is_alive()
        if was_alive:
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        if not was_alive and process.exitcode:
            raise RuntimeError(f"a training process ended with exit code {process.exitcode}")
        return was_alive

    undisturbed = replace(run, folder=run.folder / "undisturbed")
    began = time.perf_counter()
    alive(undisturbed, None)
    most_seconds = share * (time.perf_counter() - began)
    found: dict[str, Any] = {"kills": 0, "runs": 0, "before_anything_was_saved": 0, "differences": []}
    while found["kills"] < kills:
        one = replace(run, folder=run.folder / f"run-{found['runs']}")
        found["runs"] += 1
        while alive(one, moments.uniform(0, most_seconds) if found["kills"] < kills else None):
            found["kills"] += 1
            found["before_anything_was_saved"] += not resume.exists(one.folder)
        found["differences"] += differences(undisturbed.folder, one.folder)
    return found


def differences(a: Path, b: Path) -> list[str]:
    """What is not bit for bit the same in two finished runs: weights, state, metrics but for times, and experience."""
    told = []
    states = [resume.read(folder) for folder in (a, b)]
    for what, files in {
        "weights": [next(folder.glob("weights-*.safetensors")) for folder in (a, b)],
        "state": [folder / "resume" / state.file for folder, state in zip((a, b), states, strict=True)],
    }.items():
        told += [f"{what} {name} of {b}" for name in different_tensors(*files)]
    # The log's length varies with the digits of the times in it.
    unlike = {"seconds": 0.0, "saving_seconds": 0.0, "log": 0, "experience": {}}
    if len({repr(replace(state.moment, **unlike)) for state in states}) > 1:
        told.append(f"counts of {b}")
    if timeless_metrics(a) != timeless_metrics(b):
        told.append(f"metrics of {b}")
    if not same_experience(a / "experience", b / "experience"):
        told.append(f"experience of {b}")
    return told


def different_tensors(a: Path, b: Path) -> list[str]:
    """The names of what differs between two safetensors files."""
    with safe_open(a, "numpy") as first, safe_open(b, "numpy") as second:
        names = set(first.keys()) ^ set(second.keys())
        same = [name for name in first.keys() if name not in names]  # noqa: SIM118 - it is no mapping
        return sorted(names) + [
            name for name in same if first.get_tensor(name).tobytes() != second.get_tensor(name).tobytes()
        ]


def timeless_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, without what depends on the clock."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: x for key, x in record.items() if key not in _TIMES} for record in records]


def same_experience(a: Path, b: Path) -> bool:
    """Whether two stores hold the same episodes."""
    with Experience(a, read_only=True) as first, Experience(b, read_only=True) as second:
        if len(first.episodes) != len(second.episodes):
            return False
        for one, other in zip(first.episodes, second.episodes, strict=True):
            if (one.task, one.seed, one.actors) != (other.task, other.seed, other.actors):
                return False
            lived, again = first.read(one), second.read(other)
            for name in ("observations", "actions", "rewards", "terminated", "truncated"):
                if not np.array_equal(getattr(lived, name), getattr(again, name)):
                    return False
    return True


def main(options: Kills) -> None:
    """Kills, compares, tells and writes it down."""
    config = replace(
        preset("tiny"),
        steps=options.steps,
        random_steps=120,
        evaluate_every=options.steps // 3,
        evaluation_episodes=1,
        final_episodes=1,
        save_every=0.0,
        device="cpu",
    )
    make = partial(envs.make, options.task, max_episode_steps=options.episode_steps)
    env = make()
    task = env.get_wrapper_attr("task")
    info = AgentInfo(task.name, task.action_repeat, task.decisions, task.can_terminate, envs.winding_angles(env))
    env.close()
    options.out.parent.mkdir(parents=True, exist_ok=True)  # not only after all those kills
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(make, info, config, Path(folder))
        found = kill(run, options.kills, options.share, random.Random(options.seed))
    sizes = {"task": task.name, "steps": options.steps, "episode_steps": options.episode_steps}
    result = sizes | {"seconds": round(time.perf_counter() - began)} | found
    write_atomically(options.out, (json.dumps(result | provenance(), indent=2) + "\n").encode())
    print(
        f"{found['kills']} kills in {found['runs']} runs, {found['before_anything_was_saved']} of them before anything "
        f"was saved: {len(found['differences'])} differences"
    )
    for difference in found["differences"]:
        print(f"  {difference}")
    if found["differences"]:
        raise SystemExit(1)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Kills, config=(tyro.conf.FlagCreatePairsOff,)))
