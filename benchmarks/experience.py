"""How fast the experience on disk is sampled and appended to, beside buffers in memory.

python benchmarks/experience.py

A million decisions of a walker's size are stored three times: in preplay's experience, in plain NumPy arrays, and in
torchrl's replay buffer where that is installed. All three then draw sequences, in rounds that take turns, so that a
slow minute of the machine falls on all alike. Resident memory is that of a process that has nothing but the experience.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

# One thread, set before NumPy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from agent import Experience
from agent.files import write_atomically
from preplay.errors import UsageError, one_sentence
from preplay.provenance import installed, provenance

OBSERVATION_DIM, ACTION_DIM, EPISODE = 24, 6, 500
Draw = Callable[[int, int], object]


@dataclass(frozen=True)
class ExperienceSpeed:
    """Time sampling from experience on disk beside buffers in memory, and appending to it."""

    decisions: int = 1_000_000
    """Decisions stored."""
    batch_size: int = 256
    """Sequences a batch."""
    lengths: tuple[int, ...] = (4, 6)
    """Decisions a sequence."""
    rounds: int = 60
    """Rounds timed for each length."""
    batches: int = 20
    """Batches a round."""
    folder: Path | None = None
    """Where the experience is stored meanwhile; by default where temporary files go."""
    out: Path = Path("benchmarks/results/experience.json")
    """Where to write what was found."""


class Arrays:
    """The plain buffer in memory: one array for each quantity, both observations of a decision, fancy indexing."""

    def __init__(self, decisions: int) -> None:
        self.observations = np.zeros((decisions, OBSERVATION_DIM), np.float32)
        self.next_observations = np.zeros((decisions, OBSERVATION_DIM), np.float32)
        self.actions = np.zeros((decisions, ACTION_DIM), np.float32)
        self.rewards = np.zeros(decisions, np.float32)
        self.terminated = np.zeros(decisions, np.float32)
        self.last = np.zeros(decisions, bool)

    def sample(self, batch_size: int, length: int, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Sequences of decisions, and a mask of what lies within their episodes."""
        index = rng.integers(len(self.last) - length, size=batch_size) + np.arange(length)[:, None]
        last = self.last[index]
        mask = (np.cumsum(last, axis=0) - last == 0).astype(np.float32)
        observations = np.concatenate([self.observations[index[:1]], self.next_observations[index]])
        parts = (observations, self.actions[index], self.rewards[index], self.terminated[index], mask)
        return tuple(torch.from_numpy(part) for part in parts)


def torchrl_buffer(arrays: Arrays, batch_size: int, length: int) -> Draw:
    """A buffer of torchrl with what `arrays` hold. It draws slices of `length` decisions and the state after them."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, ReplayBuffer, SliceSampler

    size = len(arrays.last)
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(size),
        sampler=SliceSampler(num_slices=batch_size, traj_key="episode", cache_values=True),
        batch_size=batch_size * (length + 1),
    )
    content = {
        "observation": torch.from_numpy(arrays.observations),
        "action": torch.from_numpy(arrays.actions),
        "reward": torch.from_numpy(arrays.rewards),
        "terminated": torch.from_numpy(arrays.terminated),
        "episode": torch.arange(size) // EPISODE,
    }
    buffer.extend(TensorDict(content, batch_size=[size]))
    return lambda batch_size, length: buffer.sample()


def fill(folder: Path, arrays: Arrays, seed: int = 0) -> dict[str, float]:
    """Stores random episodes in a new experience and in `arrays`; decisions appended a second, one by one."""
    rng = np.random.default_rng(seed)
    decisions, spent = len(arrays.last), 0.0
    with Experience(folder) as experience:
        for start in range(0, decisions, EPISODE):
            count = min(EPISODE, decisions - start)
            observations = rng.standard_normal((count + 1, OBSERVATION_DIM), np.float32)
            actions = rng.uniform(-1, 1, (count, ACTION_DIM)).astype(np.float32)
            rewards = rng.uniform(0, 1, count).astype(np.float32)
            into = slice(start, start + count)
            arrays.observations[into], arrays.next_observations[into] = observations[:-1], observations[1:]
            arrays.actions[into], arrays.rewards[into] = actions, rewards
            arrays.last[start + count - 1] = True
            began = time.perf_counter()
            experience.begin(observations[0], task="walker-walk", seed=start)
            for t in range(count):
                experience.add(actions[t], rewards[t], observations[t + 1], False, t + 1 == count, "mppi")
            spent += time.perf_counter() - began
    return {"appends_per_second": decisions / spent}


def appends_when_durable(folder: Path, episodes: int = 40) -> float:
    """Decisions appended a second when every episode is on disk before the next begins."""
    arrays = np.zeros((EPISODE + 1, OBSERVATION_DIM), np.float32), np.zeros((EPISODE, ACTION_DIM), np.float32)
    with Experience(folder, durability="episode") as experience:
        began = time.perf_counter()
        for episode in range(episodes):
            experience.begin(arrays[0][0], task="walker-walk", seed=episode)
            for t in range(EPISODE):
                experience.add(arrays[1][t], 0.0, arrays[0][t + 1], False, t + 1 == EPISODE, "mppi")
        return episodes * EPISODE / (time.perf_counter() - began)


def resident(folder: Path, batch_size: int, lengths: tuple[int, ...], results: Any) -> None:
    """In a process of its own: opens the experience, draws from all over it, and tells its megabytes and seconds."""
    before = megabytes()
    began = time.perf_counter()
    with Experience(folder, read_only=True) as experience:
        opening = time.perf_counter() - began
        rng = np.random.default_rng(0)
        for i in range(8000):  # enough for every page to have been touched
            experience.sample(batch_size, lengths[i % len(lengths)], rng)
        results.put({"megabytes": megabytes(), "megabytes_before": before, "seconds_to_open": opening})


def megabytes() -> float:
    """Resident memory of this process."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def race(draws: dict[str, Draw], batch_size: int, length: int, rounds: int, batches: int) -> dict[str, float]:
    """Batches a second of each, the median over rounds that take turns."""
    times: dict[str, list[float]] = {name: [] for name in draws}
    for draw in draws.values():  # warm
        for _ in range(50 * batches):
            draw(batch_size, length)
    order = list(draws)
    for i in range(rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            began = time.perf_counter()
            for _ in range(batches):
                draws[name](batch_size, length)
            times[name].append(time.perf_counter() - began)
    return {name: batches / median(seconds) for name, seconds in times.items()}


def main(options: ExperienceSpeed) -> None:
    """Measures, prints a table and writes it down."""
    if min(options.decisions, options.batch_size, options.rounds, options.batches, *options.lengths) < 1:
        raise UsageError("all counts must be 1 or more")
    if options.decisions <= max(options.lengths):
        raise UsageError("--decisions must be more than each of --lengths")
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"there is no folder {str(options.folder)!r}")
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        arrays = Arrays(options.decisions)
        result: dict[str, Any] = fill(folder / "experience", arrays)
        result["appends_per_second_durable"] = appends_when_durable(folder / "durable")
        experience = stack.enter_context(Experience(folder / "experience", read_only=True))
        result["bytes_on_disk"] = experience.disk_bytes
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(
            target=resident, args=(folder / "experience", options.batch_size, options.lengths, queue)
        )
        process.start()
        result |= queue.get()
        process.join()
        rngs = [np.random.default_rng(i) for i in range(2)]
        result["rows"] = []
        for length in options.lengths:
            draws: dict[str, Draw] = {
                "preplay": lambda size, length: experience.sample(size, length, rngs[0]),
                "numpy": lambda size, length: arrays.sample(size, length, rngs[1]),
            }
            if importlib.util.find_spec("torchrl"):
                draws["torchrl"] = torchrl_buffer(arrays, options.batch_size, length)
            speeds = race(draws, options.batch_size, length, options.rounds, options.batches)
            fastest = max(x for name, x in speeds.items() if name != "preplay")
            row = {"batch_size": options.batch_size, "length": length, "batches_per_second": speeds}
            result["rows"].append(row | {"times_as_long_as_the_fastest": fastest / speeds["preplay"]})
    sizes = {"decisions": options.decisions, "observation_dim": OBSERVATION_DIM, "action_dim": ACTION_DIM}
    result = sizes | result | provenance() | {"torchrl": installed("torchrl")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode())
    show(result)


def show(result: dict[str, Any]) -> None:
    """The result as a table."""
    table = Table("sequences", "preplay, on disk", "NumPy, in memory", "torchrl, in memory", "of the fastest's time")
    for row in result["rows"]:
        speeds = row["batches_per_second"]
        cells = [f"{speeds[name]:,.0f}/s" if name in speeds else "–" for name in ("preplay", "numpy", "torchrl")]
        table.add_row(
            f"{row['batch_size']} x {row['length']}", *cells, f"{row['times_as_long_as_the_fastest']:.2f} times"
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"appends: {result['appends_per_second']:,.0f} a second, {result['appends_per_second_durable']:,.0f} with "
        f"every episode synced; {result['decisions']:,} decisions take {result['bytes_on_disk'] / 2**20:.0f} MB on "
        f"disk, open in {result['seconds_to_open'] * 1000:.0f} ms; resident memory {result['megabytes']:.0f} MB, "
        f"{result['megabytes_before']:.0f} of them before opening"
    )


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(ExperienceSpeed))
