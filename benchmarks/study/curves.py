"""The study's results: a small file for each finished run, with what tables and figures need."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import AgentInfo, TrainConfig, describe
from agent.config import from_dict
from agent.files import write_atomically
from benchmarks.study.variants import Variant, check_fit, configuration, fingerprint
from preplay.card import read_metrics
from preplay.errors import UsageError
from preplay.text import file_name, place

_KEPT = ("kind", "step", "planner", "mean_return", "interval", "returns")
_KEPT_AT_THE_END = (*_KEPT, "seeds", "milliseconds")
_HEAD = {"task": str, "seed": int, "variant": str, "steps": int}


@dataclass(frozen=True)
class Curve:
    """A finished run.

    Attributes:
        head: where it comes from: task, seed, variant, steps, command, commit and more.
        evaluations: records of the evaluations while it trained, in the order of their steps.
        planned: the final evaluation, of the agent as it was trained.
        prior: the same of its policy prior alone.
        file: where it was read from.
    """

    head: dict[str, Any]
    evaluations: list[dict[str, Any]]
    planned: dict[str, Any]
    prior: dict[str, Any]
    file: Path

    @property
    def task(self) -> str:
        """What it was trained on."""
        return self.head["task"]

    @property
    def seed(self) -> int:
        """Its training seed."""
        return self.head["seed"]

    @property
    def variant(self) -> str:
        """The name of how it was trained."""
        return self.head["variant"]

    @property
    def steps(self) -> int:
        """Environment steps that it took."""
        return self.head["steps"]

    @property
    def points(self) -> list[tuple[int, float]]:
        """Environment steps and mean return of each evaluation, the final one included."""
        return [(record["step"], record["mean_return"]) for record in (*self.evaluations, self.planned)]

    def at(self, step: int) -> dict[str, Any] | None:
        """The evaluation at exactly these environment steps; None where there was none."""
        records = (self.planned, *self.evaluations)
        return next((record for record in records if record["step"] == step), None)


def take_in(run: Path, variant: Variant, results: Path) -> Path:
    """Copies what the study needs of a finished run.

    Returns:
        The file that was written.

    Raises:
        UsageError: when the run is not finished, was not trained as the variant is, or would stand beside curves of
            the same name that weren't; see `check_same`.
    """
    description = describe(run)
    where, training = place(run), description["training"]
    config = from_dict(TrainConfig, description["config"], "config")
    info = AgentInfo(description["task"], description["action_repeat"], training=training)
    check_fit(config, info, variant, where)
    records = read_metrics(run)
    final = [record for record in records if record["kind"] == "final"]
    if len(final) != 2:
        raise UsageError(f"the run in {where!r} is not finished; go on with: preplay train --resume {where}")
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    task, steps = description["task"], training["steps"]
    commit = training.get("commit") or ""
    head = {
        "kind": "run",
        "task": task,
        "seed": config.seed,
        "variant": variant.name,
        "steps": steps,
        "command": without_absolute_paths(training.get("command") or ""),
        "commit": commit.removesuffix("+") or None,
        "dirty": commit.endswith("+"),
        "resumed": training.get("resumed", []),
        "date": training.get("date"),
        "machine": training.get("machine"),
        "versions": training.get("versions"),
        "seconds": training.get("seconds_with_final_evaluation"),
        "updates_per_decision": config.updates_per_decision,
        "settings": fingerprint(config),
    }
    kept = [{key: record[key] for key in _KEPT} for record in evaluations]
    kept += [{key: record[key] for key in _KEPT_AT_THE_END} for record in final]
    file = place_of(results, variant.name, task, config.seed, steps)
    check_same(results, variant, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, ("\n".join(json.dumps(line) for line in (head, *kept)) + "\n").encode())
    return file


def place_of(results: Path, variant: str, task: str, seed: int, steps: int | str) -> Path:
    """Where a run's curve is kept."""
    return results / variant / f"{file_name(task)}-seed{seed}-{steps}.jsonl"


def check_same(results: Path, variant: Variant, but: Path | None = None) -> None:
    """Makes sure that a variant's curves were trained with the settings that it has now: defaults change.

    Args:
        results: where curves are kept.
        variant: whose.
        but: a file that doesn't matter, since it is about to be replaced.

    Raises:
        UsageError: when some were not.
    """
    wanted = fingerprint(configuration(variant))
    for file in sorted((results / variant.name).glob("*.jsonl")):
        if file != but and read_file(file).head.get("settings") != wanted:
            raise UsageError(
                f"{place(file)} was trained with other settings than variant {variant.name!r} has now; keep the new "
                "curves apart, with --results"
            )


def covered(results: Path, variant: str, task: str, seed: int, steps: int) -> bool:
    """Whether a curve of so many steps, or more, has been taken in."""
    pattern = place_of(results, variant, task, seed, "*")
    taken = (file.stem.rpartition("-")[2] for file in pattern.parent.glob(pattern.name))
    return any(int(n) >= steps for n in taken if n.isdecimal())


def read(results: Path) -> list[Curve]:
    """All curves, in the order of their files' names.

    Raises:
        UsageError: for a file that is damaged.
    """
    return [read_file(file) for file in sorted(results.glob("*/*.jsonl"))]


def read_file(file: Path) -> Curve:
    """One curve.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        head, *records = (json.loads(line) for line in file.read_text().splitlines())
        evaluations = [record for record in records if record["kind"] == "evaluation"]
        planned, prior = (record for record in records if record["kind"] == "final")
        sound = all(isinstance(head[key], kind) for key, kind in _HEAD.items())
        sound &= all(isinstance(record[key], int | float) for record in records for key in ("step", "mean_return"))
        sound &= all(isinstance(record["returns"], list) and record["returns"] for record in records)
        if not sound:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{str(file)!r} is no curve of a finished run; take the run in again, or remove it") from None
    return Curve(head, evaluations, planned, prior, file)


def without_absolute_paths(command: str) -> str:
    """A command with paths as seen from where the user stands; of those that lie elsewhere, the last part."""

    def shortened(match: re.Match[str]) -> str:
        path = place(Path(match[0]))
        return Path(path).name if path.startswith("/") else path

    return re.sub(r"(?<![^\s='\"])/[^\s'\"]+", shortened, command)
