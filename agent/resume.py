"""Training runs on disk: everything that the rest of a run depends on, so that it can go on as if nothing had happened.

A run folder has `resume/state.json`, which names a safetensors file beside it and its SHA-256, and is replaced last, in
one step: a kill or a full disk leaves the state before or the one after. What has been experienced lies in
`experience/`, what has been logged in `metrics.jsonl`; the state says how much of either belongs to it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from agent.agent import AgentInfo
from agent.config import TrainConfig, from_dict, to_dict
from agent.errors import CheckpointError, ConfigError
from agent.experience.priorities import MOST_LEAVES
from agent.files import (
    Expected,
    content_sha256,
    parse_json,
    read_safely,
    read_tensors,
    remove_others,
    write_atomically,
    write_tensors,
)
from agent.migrations import check_run, migrate_config
from agent.progress import Counts

SCHEMA = 9
# A state of schema 2 holds a configuration as agents of schema 3 do, and so on.
_TO_AGENTS = 1
_FOLDER, _FILE, _STEM = "resume", "state.json", "state"
_MOST = 2**26  # bytes of state.json
_MOST_ELITES = 100_000


@dataclass(frozen=True)
class Moment:
    """Where a run was when it was saved, beside its tensors.

    Attributes:
        step: environment steps taken.
        counts: where it stood, for itself.
        last_return: of the last finished episode; None before the first.
        evaluation: mean return of the last evaluation; None before the first.
        rngs: the states of NumPy's generators, by name.
        plan_elites: elites that the running plan remembers; None where no plan is running.
        plan_age: decisions taken from the running plan.
        priorities: decisions whose priorities are known.
        log: bytes of `metrics.jsonl` that belong to the state.
        experience: offset in the store of experience.
        seconds: that the run took so far.
        saving_seconds: of them, those spent on saving.
        finished: whether the final evaluation is done, too.
        device: `cpu` or `cuda`; what a generator's state means depends on it.
    """

    step: int
    counts: Counts
    last_return: float | None
    evaluation: float | None
    rngs: dict
    plan_elites: int | None
    plan_age: int
    priorities: int
    log: int
    experience: dict
    seconds: float
    saving_seconds: float
    finished: bool
    device: str

    def __post_init__(self) -> None:
        counted = [x for x in dataclasses.astuple(self.counts) if isinstance(x, int)]
        numbers = self.step, self.plan_age, self.log, *counted
        bounded = (self.priorities, MOST_LEAVES), (self.plan_elites or 0, _MOST_ELITES)
        if not all(0 <= x <= 2**62 for x in numbers) or not all(0 <= x <= most for x, most in bounded):
            raise ConfigError("its numbers can't be")


@dataclass(frozen=True)
class RunState:
    """A training run as it was saved.

    Attributes:
        config: everything that was set.
        info: what the agent is for.
        moment: where the run was.
        file: the name of the file with the tensors.
        digest: its SHA-256.
        size: its bytes.
    """

    config: TrainConfig
    info: AgentInfo
    moment: Moment
    file: str
    digest: str
    size: int


def exists(folder: Path) -> bool:
    """Whether there is something to resume in a run folder."""
    return (folder / _FOLDER / _FILE).exists()


def write(folder: Path, config: TrainConfig, info: AgentInfo, moment: Moment, tensors: dict[str, Tensor]) -> None:
    """Puts a new state in the place of the one before, which stays whole until the new one is."""
    place = folder / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    written = write_tensors(place, _STEM, tensors)
    _describe(folder, config, info, moment, dataclasses.asdict(written))
    remove_others(place, _STEM, written.name)


def amend(folder: Path, config: TrainConfig, info: AgentInfo, moment: Moment) -> None:
    """Says something else of the state that is there; its tensors stay as they are.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    state = read(folder)
    _describe(folder, config, info, moment, {"name": state.file, "sha256": state.digest, "bytes": state.size})


def _describe(
    folder: Path, config: TrainConfig, info: AgentInfo, moment: Moment, tensors: dict[str, str | int]
) -> None:
    """Replaces `state.json`.

    Raises:
        ConfigError: when it would be larger than `read` reads.
    """
    state = {
        "schema": SCHEMA,
        "config": to_dict(config),
        "info": dataclasses.asdict(info),
        "moment": dataclasses.asdict(moment),
        "tensors": tensors,
    }
    state["sha256"] = content_sha256(state)
    data = (json.dumps(state, indent=2, allow_nan=False) + "\n").encode()
    if len(data) > _MOST:
        raise ConfigError(
            f"the state of the run takes {len(data):,} bytes, and may take {_MOST:,}: see its observations"
        )
    write_atomically(folder / _FOLDER / _FILE, data)


def read(folder: Path) -> RunState:
    """The state of a run, without its tensors.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    file = folder / _FOLDER / _FILE
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{str(folder)!r} is a file; expected the folder of a training run")
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {str(folder)!r}")
    if not exists(folder):
        raise CheckpointError(f"{str(folder)!r} holds no training run that could go on: it has no {_FOLDER}/{_FILE}")
    state = parse_json(read_safely(file, _MOST), file)
    if not isinstance(state, dict) or "schema" not in state:
        raise CheckpointError(f"{file} is not the state of a training run")
    if state["schema"] not in range(2, SCHEMA + 1):
        raise CheckpointError(
            f"{file} has schema {state['schema']!r}; this version of preplay reads schemas 2 to {SCHEMA}; go on with "
            "the one that wrote it"
        )
    if state.pop("sha256", None) != content_sha256(state):
        raise CheckpointError(f"{file} is damaged: its content does not match its checksum")
    try:
        tensors = state["tensors"]
        name = str(tensors["name"])
        if Path(name).name != name:
            raise ValueError("name")
        check_run(state["config"])
        return RunState(
            from_dict(TrainConfig, migrate_config(state["config"], state["schema"] + _TO_AGENTS), "config"),
            _info(state["info"]),
            from_dict(Moment, state["moment"], "moment"),
            name,
            str(tensors["sha256"]),
            int(tensors["bytes"]),
        )
    except ConfigError as error:
        raise CheckpointError(f"{file} does not fit this version of preplay: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{file} is damaged: it lacks what a training run needs") from None


def read_state_tensors(folder: Path, state: RunState, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state, which must have the names, shapes and types of those in `like`.

    Raises:
        CheckpointError: when the file is missing, damaged, or holds something else.
    """
    expected = {name: Expected(tuple(x.shape), (x.dtype,)) for name, x in like.items()}
    path = folder / _FOLDER / state.file
    return read_tensors(path, expected, state.digest, state.size, "the state that state.json describes")


def _info(values: dict[str, Any]) -> AgentInfo:
    """What the agent is for, as it was saved.

    Raises:
        ConfigError, ValueError: for anything else.
    """
    info = AgentInfo.from_dict(values)
    versions, resumed = info.training.get("versions", {}), info.training.get("resumed", [])
    if not isinstance(versions, dict) or not isinstance(resumed, list):
        raise ValueError("training")
    return info
