"""How fast a plan and an update are on this machine, and how near to what its matrix products allow.

python benchmarks/speed.py

Everything is timed in one run, on one thread, in rounds that take turns, so that a slow minute of the machine falls on
all rows alike. Floating-point operations are those of matrix products, a multiplication and an addition as two, set
against the best rate of a plain matrix product of this run at the same precision. The products are timed by themselves,
too: what a plan or an update takes beyond them lies between them.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from agent import PRESETS, Agent, Experience, Learner, TrainConfig
from agent.compiled import CompiledEngine
from agent.engine import Engine
from agent.files import write_atomically
from agent.precision import set_matmul_precision
from benchmarks.products import flops, products_of, seconds_alone
from preplay.errors import UsageError, one_sentence
from preplay.provenance import provenance
from preplay.timing import ACTION_DIM, OBSERVATION_DIM, untrained_agent


@dataclass(frozen=True)
class Speed:
    """Time a plan and an update for each preset, on one thread, beside this machine's matrix-product rate."""

    presets: tuple[Literal["tiny", "small", "base"], ...] = ("tiny", "small", "base")
    """Which."""
    precisions: tuple[Literal["highest", "high", "medium"], ...] = ("highest", "medium")
    """Matrix-product precisions, as --matmul-precision of preplay train takes them."""
    compiled: tuple[bool, ...] = (False, True)
    """Whether torch compiles, as --compile of preplay train lets it."""
    rounds: int = 5
    """How many times each is measured."""
    seconds: float = 1.0
    """How long each measurement lasts, at least."""
    out: Path = field(default_factory=lambda: Path("benchmarks/results/speed.json"))
    """Where the figures are written."""


def main(options: Speed) -> None:
    """Measures, prints a table and writes it down."""
    if options.rounds < 1 or not options.presets or not options.precisions or not options.compiled:
        raise UsageError(
            "--rounds must be at least 1, and --presets, --precisions and --compiled must name at least one each"
        )
    torch.set_num_threads(1)
    configs = {
        (name, precision, compiled): replace(
            PRESETS[name], device="cpu", threads=1, matmul_precision=precision, compile=compiled
        )
        for precision in options.precisions
        for name in options.presets
        for compiled in options.compiled
    }
    subjects = {key: subject(config) for key, config in configs.items()}
    rates: dict[str, list[float]] = {precision: [] for precision in options.precisions}
    times: dict[tuple[str, str, bool], dict[str, list[float]]] = {key: {"plan": [], "update": []} for key in subjects}
    for _ in range(options.rounds):
        for precision in options.precisions:
            set_matmul_precision(precision)
            rates[precision].append(matmul_rate())
            for key, runs in subjects.items():
                for what, run in runs.items() if key[1] == precision else ():
                    times[key][what] += measure(run, options.seconds)
    rows: list[dict[str, Any]] = []
    for key, config in configs.items():
        name, precision, compiled = key
        set_matmul_precision(precision)
        # Compiled code isn't looked into; it multiplies the same.
        for what, run in subject(replace(config, compile=False)).items():
            seconds = times[key][what]
            products, middle = products_of(run), median(seconds)
            rows.append(
                {
                    "preset": name,
                    "what": what,
                    "precision": precision,
                    "compiled": compiled,
                    "milliseconds": {"p50": 1000 * middle, "p95": 1000 * float(np.percentile(seconds, 95))},
                    "timed": len(seconds),
                    "milliseconds_of_products": 1000 * seconds_alone(products),
                    "megaflop": flops(products) / 1e6,
                    "share_of_matmul_rate": flops(products) / middle / max(rates[precision]),
                }
            )
    result = {"gigaflop_per_second": {p: max(r) / 1e9 for p, r in rates.items()}, "rows": rows} | provenance()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode())
    show(result)


def subject(config: TrainConfig) -> dict[str, Callable[[], object]]:
    """A plan and an update of a configuration, ready to be called."""
    planner, learning = untrained_agent(config), untrained_agent(config)
    engine = planner.engine = CompiledEngine(config.planning) if config.compile else Engine()
    observation = np.zeros(OBSERVATION_DIM, np.float32)

    def plan() -> object:
        with torch.inference_mode():
            return planner.act(observation)

    return {"plan": plan, "update": updater(learning, config, engine)}


def updater(agent: Agent, config: TrainConfig, engine: Engine) -> Callable[[], object]:
    """A gradient step on a batch drawn from a buffer, as the trainer takes it."""
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        experience = Experience(folder)  # what is open can be sampled when its files are gone
        for t in range(5000):
            observation, following = rng.normal(size=(2, OBSERVATION_DIM)).astype(np.float32)
            action = rng.uniform(-1, 1, ACTION_DIM).astype(np.float32)
            if t % 500 == 0:
                experience.begin(observation, task="noise")
            experience.add(action, float(rng.uniform()), following, False, t % 500 == 499)
    learner = Learner(agent.model, config.learner, torch.Generator().manual_seed(0))
    sizes = config.learner.batch_size, config.learner.horizon
    return lambda: engine.update(learner, experience.sample(*sizes, rng))


def matmul_rate(size: int = 1024) -> float:
    """Floating-point operations a second of a square float32 matrix product at the present precision."""
    a, b = torch.randn(2, size, size)
    return 2 * size**3 / min(measure(lambda: a @ b, 0.3))


def measure(run: Callable[[], object], seconds: float, fewest: int = 3) -> list[float]:
    """Seconds that each of some calls takes, after one to warm up."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < fewest or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in result["gigaflop_per_second"].items())
    console.print(f"{result['machine']}, one thread\nmatrix product of 1024 x 1024: {rates}")
    titles = "preset", "what", "precision", "compiled", "ms p50", "ms p95", "ms products", "MFLOP", "share of rate"
    table = Table(*titles, box=None, pad_edge=False)
    for row in result["rows"]:
        ms = row["milliseconds"]
        figures = [f"{x:.1f}" for x in (ms["p50"], ms["p95"], row["milliseconds_of_products"])]
        figures += [f"{row['megaflop']:.0f}", f"{row['share_of_matmul_rate']:.0%}"]
        table.add_row(row["preset"], row["what"], row["precision"], "yes" if row["compiled"] else "no", *figures)
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Speed))
