"""Agents on disk: a folder with `config.json` and one safetensors file.

`config.json` names the weights file and its SHA-256, and is replaced last, in one step. So a kill or a full disk at
any moment leaves either the old checkpoint or the new one, never a mixture. Nothing is ever unpickled.
"""

import contextlib
import hashlib
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from agent.agent import Agent, AgentInfo
from agent.config import TrainConfig, from_dict, to_dict
from agent.errors import CheckpointError, ConfigError, DivergedError
from planners import PlannerError

SCHEMA = 1
_WEIGHTS = re.compile(r"weights-[0-9a-f]{12}\.safetensors")
# A model larger than this is refused before any memory is taken for it.
_MOST_PARAMETERS = 200_000_000
_FULL_PRECISION = ("norm.",)


def save(agent: Agent, folder: str | Path, half: bool = False) -> None:
    """See `Agent.save`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        # Running statistics don't fit the range of half precision.
        name: x.detach().cpu().contiguous().to(_stored_type(name, half))
        for name, x in agent.model.state_dict().items()
    }
    for name, x in tensors.items():
        # A model that could not be loaded again must not take the place of one that can.
        if not torch.isfinite(x).all():
            raise DivergedError(f"the weights {name!r} are NaN, infinite or too large to store")
    data = safetensors.torch.save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    weights = f"weights-{digest[:12]}.safetensors"
    description = {
        "schema": SCHEMA,
        "task": agent.info.task,
        "observation_dim": agent.model.observation_dim,
        "action_dim": agent.model.action_dim,
        "action_repeat": agent.info.action_repeat,
        "decisions": agent.info.decisions,
        "can_terminate": agent.info.can_terminate,
        "angles": list(agent.info.angles),
        "precision": "float16" if half else "float32",
        "weights": {"file": weights, "sha256": digest},
        "config": to_dict(agent.config),
        "training": agent.info.training,
    }
    write_atomically(folder / weights, data)
    write_atomically(folder / "config.json", (json.dumps(description, indent=2) + "\n").encode())
    for old in folder.glob("weights-*.safetensors"):
        if old.name != weights and _WEIGHTS.fullmatch(old.name):
            old.unlink(missing_ok=True)


def load(folder: str | Path, device: str = "auto") -> Agent:
    """See `Agent.load`."""
    folder = Path(folder)
    description = describe(folder)
    try:
        config = from_dict(TrainConfig, description["config"], "config")
        info = AgentInfo(
            task=_typed(description, "task", str),
            action_repeat=_positive(description, "action_repeat"),
            decisions=None if description.get("decisions") is None else _positive(description, "decisions"),
            can_terminate=_typed(description, "can_terminate", bool),
            angles=_angles(description),
            training=_typed(description, "training", dict),
        )
        observation_dim, action_dim = _positive(description, "observation_dim"), _positive(description, "action_dim")
        if _parameters(config, observation_dim, action_dim) > _MOST_PARAMETERS:
            raise ConfigError("its model has an impossible size")
        agent = Agent(config, observation_dim, action_dim, info, device)
        digest = _typed(description["weights"], "sha256", str)
    except (ConfigError, PlannerError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not fit this version of preplay: {error}") from None
    weights = _weights_path(folder, description)
    tensors = _read(weights, digest)
    expected = agent.model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape:
            raise CheckpointError(f"{weights} does not hold the model that config.json describes (see {name!r})")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{weights} has NaN or infinite weights in {name!r}; the training run diverged")
    agent.model.load_state_dict({name: x.float() for name, x in tensors.items()})
    agent.model.eval().requires_grad_(False)
    return agent


def describe(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint's `config.json` says, without loading the weights.

    Raises:
        CheckpointError: when the folder is missing or is no checkpoint.
    """
    folder = Path(folder)
    file = folder / "config.json"
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {str(folder)!r}")
    try:
        description = json.loads(file.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} is not a checkpoint: it has no config.json") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{file} can't be read: {error}") from None
    if not isinstance(description, dict) or "schema" not in description:
        raise CheckpointError(f"{file} is not the description of a preplay checkpoint")
    if description["schema"] != SCHEMA:
        raise CheckpointError(
            f"{file} has schema {description['schema']!r}; this version of preplay reads schema {SCHEMA}"
        )
    for key, kind in {"config": dict, "weights": dict, "task": str, "action_repeat": int}.items():
        if not isinstance(description.get(key), kind):
            raise CheckpointError(f"{file} lacks {key!r}; the checkpoint is damaged")
    return description


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that it is either whole or not there: aside, synced to disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _stored_type(name: str, half: bool) -> torch.dtype:
    return torch.float16 if half and not name.startswith(_FULL_PRECISION) else torch.float32


def _typed(values: dict[str, Any], key: str, *kinds: type) -> Any:
    value = values.get(key)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{key} is {value!r}; expected {kinds[0].__name__}")
    return value


def _positive(values: dict[str, Any], key: str) -> int:
    value: int = _typed(values, key, int)
    if value < 1:
        raise ConfigError(f"{key} is {value}; it must be at least 1")
    return value


def _angles(description: dict[str, Any]) -> tuple[int, ...]:
    angles = description.get("angles", [])  # agents from before there were any have none
    if not isinstance(angles, list) or not all(type(i) is int for i in angles):
        raise ConfigError(f"angles is {angles!r}; expected a list of whole numbers")
    return tuple(angles)


def _weights_path(folder: Path, description: dict[str, Any]) -> Path:
    name = description["weights"].get("file")
    if not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
        raise CheckpointError(f"{folder / 'config.json'} names {name!r} as its weights, which is no weights file")
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(f"{str(folder)!r} lacks its weights file {name}; the checkpoint is incomplete")
    return path


def _read(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its content does not match the checksum in config.json")
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, struct.error) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def _parameters(config: TrainConfig, observation_dim: int, action_dim: int) -> int:
    """A generous count of the parameters that a configuration asks for."""
    m = config.model
    width = max(m.latent_dim + action_dim, m.hidden_dim, m.encoder_dim, m.bins, observation_dim, 2 * action_dim)
    return (5 + m.value_heads) * 3 * width * width
