"""What a planner's own bookkeeping costs, and how its plans compare in time with stable-worldmodel's solvers.

python benchmarks/overhead.py

Two scores: one that costs nothing, so that all that is timed is the search itself, and a tiny dynamics model. One
thread; all take turns in rounds, so that a slow minute of the machine falls on all alike. stable-worldmodel's solvers
take part where they are installed, for which most of what the package depends on isn't needed:

pip install --no-deps "stable-worldmodel>=0.1.1,<0.2" loguru

They get the same sizes and the same model. Our iCEM draws fewer candidates in every iteration, as its paper has it,
theirs always as many; what they don't do, such as keeping candidates in the box, is in our time and not in theirs.
"""

import contextlib
import importlib.util
import io
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from speed import measure
from torch import Tensor, nn

import planners
from agent.files import write_atomically
from preplay.errors import UsageError, one_sentence
from preplay.provenance import installed, provenance

HORIZON, ACTION_DIM, ELITES, STATE_DIM = 3, 6, 32, 32
# Milliseconds that a plan's bookkeeping may take.
LIMITS = {"cem": 1.5, "mppi": 1.5, "icem": 3.0}


@dataclass(frozen=True)
class Overhead:
    """Time every planner that samples with a score that costs nothing, and on a tiny model beside other solvers."""

    samples: int = 512
    """Candidates of an iteration."""
    iterations: int = 6
    """Iterations."""
    rounds: int = 15
    """How many times each is measured."""
    seconds: float = 0.2
    """How long each measurement lasts, at least."""
    out: Path = field(default_factory=lambda: Path("benchmarks/results/overhead.json"))
    """Where the figures are written."""


class Nothing(nn.Module):
    """A score, and a cost as stable-worldmodel asks for it, that take no time."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        values = torch.randn(1, 2 * samples, generator=torch.Generator().manual_seed(0))
        self.register_buffer("values", values)

    def forward(self, actions: Tensor) -> Tensor:
        """Whatever was drawn beforehand (1, N), for candidates (1, N, H, A)."""
        return self.values[:, : actions.shape[1]]

    def get_cost(self, info: dict[str, Any], actions: Tensor) -> Tensor:
        """The same as a cost."""
        return self(actions)


class TinyModel(nn.Module):
    """Dynamics of one hidden layer, and a quadratic reward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step = nn.Sequential(nn.Linear(STATE_DIM + ACTION_DIM, 64), nn.SiLU(), nn.Linear(64, STATE_DIM))

    def forward(self, actions: Tensor) -> Tensor:
        """Returns (1, N) of candidates (1, N, H, A)."""
        state, total = torch.zeros(*actions.shape[:2], STATE_DIM), 0.0
        for t in range(actions.shape[2]):
            state = self.step(torch.cat([state, actions[:, :, t]], dim=-1))
            total = total - ((state - 0.1) ** 2).sum(dim=-1)
        return total

    def get_cost(self, info: dict[str, Any], actions: Tensor) -> Tensor:
        """The same as a cost."""
        return -self(actions)


def main(options: Overhead) -> None:
    """Measures, prints a table and writes it down."""
    if min(options.samples, options.iterations, options.rounds) < 1:
        raise UsageError("--samples, --iterations and --rounds must be at least 1")
    torch.set_num_threads(1)
    runs: dict[tuple[str, str, str], Callable[[], object]] = {}
    for what, model in {"nothing": Nothing(options.samples), "tiny model": TinyModel()}.items():
        model.requires_grad_(False)
        for name in planners.names():
            if not planners.get(name).own_size:
                runs[what, "preplay", name] = ours(name, model, options)
        for name, run in theirs(model, options).items():
            runs[what, "stable-worldmodel", name] = run
    times: dict[tuple[str, str, str], list[float]] = {key: [] for key in runs}
    with contextlib.redirect_stdout(io.StringIO()):  # some solvers say how long they took
        for _ in range(options.rounds):
            for key, run in runs.items():
                times[key] += measure(run, options.seconds)
    rows = [
        {
            "score": what,
            "package": package,
            "planner": name,
            "milliseconds": {"p50": 1000 * median(seconds), "p95": 1000 * float(np.percentile(seconds, 95))},
            "timed": len(seconds),
            "limit": LIMITS.get(name) if (what, package) == ("nothing", "preplay") else None,
        }
        for (what, package, name), seconds in times.items()
    ]
    sizes = {"samples": options.samples, "iterations": options.iterations, "horizon": HORIZON, "action_dim": ACTION_DIM}
    result = sizes | {"stable-worldmodel": installed("stable-worldmodel"), "rows": rows} | provenance()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(result, indent=2) + "\n").encode())
    show(result)


def ours(name: str, score: planners.Score, options: Overhead) -> Callable[[], object]:
    """A plan of ours, ready to be made."""
    sizes = {"samples": options.samples, "iterations": options.iterations, "elites": ELITES}
    planner = planners.make(name, horizon=HORIZON, action_dim=ACTION_DIM, **sizes)
    generator = torch.Generator().manual_seed(0)

    def plan() -> object:
        with torch.inference_mode():
            return planner.plan(score, generator=generator)

    return plan


def theirs(model: nn.Module, options: Overhead) -> dict[str, Callable[[], object]]:
    """Plans of stable-worldmodel's solvers; none where it isn't installed."""
    if installed("stable-worldmodel") is None:
        return {}
    if "stable_worldmodel" not in sys.modules:
        # The solvers alone: the package as a whole also loads vision libraries, which they don't need.
        spec = importlib.util.find_spec("stable_worldmodel")
        assert spec is not None
        package = types.ModuleType("stable_worldmodel")
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["stable_worldmodel"] = package
    from loguru import logger
    from stable_worldmodel.solver import CEMSolver, ICEMSolver, MPPISolver

    logger.disable("stable_worldmodel")
    space = gymnasium.spaces.Box(-1, 1, (1, ACTION_DIM), np.float32)
    config = types.SimpleNamespace(horizon=HORIZON, action_block=1)
    info = {"state": torch.zeros(1, STATE_DIM)}
    found: dict[str, Callable[[], object]] = {}
    for name, kind in {"cem": CEMSolver, "icem": ICEMSolver, "mppi": MPPISolver}.items():
        solver = kind(model, num_samples=options.samples, n_steps=options.iterations, topk=ELITES)
        solver.configure(action_space=space, n_envs=1, config=config)
        found[name] = lambda solver=solver: solver.solve(info)
    return found


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    console = Console()
    sizes = f"{result['samples']} candidates x {result['iterations']}, horizon {HORIZON}, {ACTION_DIM} actions"
    other = result["stable-worldmodel"] or "not installed, so left out"
    console.print(f"{result['machine']}, one thread: {sizes}\nstable-worldmodel: {other}")
    table = Table("score", "package", "planner", "ms p50", "ms p95", "limit", box=None, pad_edge=False)
    for row in result["rows"]:
        ms, limit = row["milliseconds"], row["limit"]
        figures = f"{ms['p50']:.2f}", f"{ms['p95']:.2f}", "" if limit is None else f"{limit:.1f}"
        table.add_row(row["score"], row["package"], row["planner"], *figures)
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(Overhead))
