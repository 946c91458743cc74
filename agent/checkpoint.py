"""Agents on disk: a folder with `config.json`, one safetensors file, and a card.

`config.json` describes the agent and lists the other files with their SHA-256 (see `agent.description`); it is replaced
last, in one step. So a kill or a full disk at any moment leaves either the old checkpoint or the new one, never a
mixture. `metrics.jsonl` grows while an agent learns and is not listed; neither is anything else that lies beside.

A folder may come from anybody. Loading reads two files, both bounded, neither through a symbolic link; it unpickles
nothing, and imports nothing that a file names: a planner is looked up among those that are registered, ours and those
of the plugins that the user has installed. No memory is taken for a model before its file has proved to hold it.

The card is for people. An agent whose card was edited or lost loads as ever; `verify` tells.
"""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from agent import description as descriptions
from agent.agent import Agent, AgentInfo, choose_device
from agent.config import TrainConfig, from_dict, to_dict
from agent.description import entry, is_name, is_weights, weights_of
from agent.errors import CheckpointError, ConfigError, DivergedError
from agent.files import (
    Expected,
    read_tensors,
    remove_others,
    sha256,
    shortened,
    stored,
    write_atomically,
    write_tensors,
)
from agent.migrations import SCHEMA, Description
from agent.world_model import WorldModel
from planners import PlannerError

__all__ = ["SCHEMA", "attach", "describe", "load", "save", "verify"]

# A model larger than this is refused before any memory is taken for it.
_MOST_PARAMETERS = 200_000_000
_FULL_PRECISION = ("norm.",)
_PRECISIONS = ("float32", "float16")


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
    description: Description = {
        "schema": SCHEMA,
        "task": agent.info.task,
        "observation_dim": agent.model.observation_dim,
        "action_dim": agent.model.action_dim,
        "action_repeat": agent.info.action_repeat,
        "decisions": agent.info.decisions,
        "can_terminate": agent.info.can_terminate,
        "angles": list(agent.info.angles),
        "precision": "float16" if half else "float32",
        "files": {},
        "config": to_dict(agent.config),
        "training": agent.info.training,
    }
    descriptions.check_storable(description)  # before anything is written
    weights = write_tensors(folder, "weights", tensors)
    descriptions.write(folder, description | {"files": entry(weights)})
    remove_others(folder, "weights", weights.name)


def load(folder: str | Path, device: str = "auto", allow_nan: bool = False) -> Agent:
    """See `Agent.load`."""
    folder = Path(folder)
    choose_device(device)  # one that isn't there is no fault of the checkpoint
    description = descriptions.read(folder)
    try:
        config, info = from_dict(TrainConfig, description["config"], "config"), _info(description)
        expected = _expected(config, info, description)
        config.planning.make(description["action_dim"])
    except (ConfigError, PlannerError) as error:
        said = shortened(error)
        raise CheckpointError(f"{folder / descriptions.FILE} does not fit this version of preplay: {said}") from None
    name = weights_of(description)
    weights, listed = folder / name, description["files"][name]
    if not os.path.lexists(weights):
        raise CheckpointError(f"{str(folder)!r} lacks its weights file {name}; the checkpoint is incomplete")
    tensors = read_tensors(weights, expected, listed["sha256"], listed["bytes"])
    for name, x in tensors.items():
        if not allow_nan and not torch.isfinite(x).all():
            raise CheckpointError(
                f"{weights} has NaN or infinite weights in {name!r}: the training run diverged; allow_nan=True loads "
                "it all the same"
            )
    agent = Agent(config, description["observation_dim"], description["action_dim"], info, device)
    agent.model.load_state_dict({name: x.float() for name, x in tensors.items()})
    agent.model.eval().requires_grad_(False)
    return agent


def describe(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint's `config.json` says, without loading the weights, whichever schema it has.

    Returns:
        Its fields in today's schema, and `weights`, the `file` among `files` that holds them and its `sha256`.

    Raises:
        CheckpointError: when the folder is missing or is no checkpoint.
    """
    description = descriptions.read(Path(folder))
    name = weights_of(description)
    return description | {"weights": {"file": name, "sha256": description["files"][name]["sha256"]}}


def attach(folder: str | Path, name: str, data: bytes) -> None:
    """Writes a file beside the weights, such as a card, and lists it in `config.json`.

    Also brings an older checkpoint to today's schema. A kill between the two writes leaves a checkpoint that loads, and
    of which `verify` says that the file is another.

    Args:
        folder: of a checkpoint.
        name: a plain file name, no weights'.
        data: its content.

    Raises:
        CheckpointError: when the folder is no checkpoint, the name won't do, or the weights of one of schema 1, which
            lists no sizes, aren't those it lists.
    """
    folder = Path(folder)
    description = descriptions.read(folder)
    if not is_name(name) or is_weights(name):
        raise CheckpointError(f"{name!r} is no name for a file of a checkpoint; expected one such as 'CARD.md'")
    files = description["files"]
    for other, listed in files.items():
        if listed["bytes"] is None:  # schema 1 didn't tell
            now = stored(folder / other)
            if now.sha256 != listed["sha256"]:
                raise CheckpointError(f"{folder / other} is damaged: its content does not match its checksum")
            files[other] = entry(now)[other]
    write_atomically(folder / name, data)
    files[name] = {"sha256": sha256(data), "bytes": len(data)}
    descriptions.write(folder, description)


def verify(folder: str | Path) -> list[str]:
    """What is wrong with the files that a checkpoint lists; nothing where each is there and as it was stored.

    Returns:
        A sentence for each file.

    Raises:
        CheckpointError: when the folder has no `config.json` that can be relied on.
    """
    folder = Path(folder)
    wrong = []
    for name, listed in descriptions.read(folder)["files"].items():
        try:
            if stored(folder / name).sha256 != listed["sha256"]:
                wrong.append(f"{folder / name} is not what was stored: its content does not match its checksum")
        except CheckpointError as error:
            wrong.append(str(error))
    return wrong


def _stored_type(name: str, half: bool) -> torch.dtype:
    return torch.float16 if half and not name.startswith(_FULL_PRECISION) else torch.float32


def _info(description: Description) -> AgentInfo:
    """What an agent is for.

    Raises:
        ConfigError: for values that make no sense.
    """
    for key in ("observation_dim", "action_dim"):
        if description[key] < 1:
            raise ConfigError(f"{key} is {description[key]}; it must be at least 1")
    return AgentInfo.from_dict({field.name: description[field.name] for field in fields(AgentInfo)})


def _expected(config: TrainConfig, info: AgentInfo, description: Description) -> dict[str, Expected]:
    """The tensors of the model that is described; no memory is taken for them.

    Raises:
        ConfigError: when there can't be such a model.
    """
    observation_dim, action_dim = description["observation_dim"], description["action_dim"]
    if _parameters(config, observation_dim, action_dim) > _MOST_PARAMETERS:
        raise ConfigError("its model has an impossible size")
    if description["precision"] not in _PRECISIONS:
        raise ConfigError(f"precision is {description['precision']!r}; expected {' or '.join(_PRECISIONS)}")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        # The discount is in no tensor.
        model = WorldModel(config.model, observation_dim, action_dim, 0.99, info.can_terminate, angles=info.angles)
    half = description["precision"] == "float16"
    return {name: Expected(tuple(x.shape), (_stored_type(name, half),)) for name, x in model.state_dict().items()}


def _parameters(config: TrainConfig, observation_dim: int, action_dim: int) -> int:
    """A generous count of the parameters that a configuration asks for."""
    m = config.model
    width = max(m.latent_dim + action_dim, m.hidden_dim, m.encoder_dim, m.bins, observation_dim, 2 * action_dim)
    return (5 + m.value_heads) * 3 * width * width
