"""`config.json`: what a checkpoint says of itself.

It lists the folder's other files, each with its SHA-256 and size in bytes (null where an old schema didn't tell), and
carries the SHA-256 of its own content, so a flipped bit anywhere is noticed. Against somebody who means harm a digest
that lies beside what it is of protects nothing: what such a person could write is bounded and checked by itself.
"""

import json
import re
from pathlib import Path
from typing import Any

from agent.errors import CheckpointError, ConfigError
from agent.files import Written, content_sha256, parse_json, read_safely, write_atomically
from agent.migrations import Description, check_schema, migrate

FILE = "config.json"
# The longest that is read, some hundred times what an agent takes.
_MOST_BYTES = 2**20
# A name in the folder itself: no separator, and no dot to begin with.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WEIGHTS = re.compile(r"weights-[0-9a-f]{12}\.safetensors")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "task": str,
    "observation_dim": int,
    "action_dim": int,
    "action_repeat": int,
    "decisions": (int, type(None)),
    "can_terminate": bool,
    "angles": list,
    "precision": str,
    "files": dict,
    "config": dict,
    "training": dict,
}


def read(folder: Path) -> Description:
    """What the `config.json` of a folder says, in today's schema and checked as far as it concerns files.

    Raises:
        CheckpointError: when the folder is missing or is no checkpoint, or its description is damaged.
    """
    file = folder / FILE
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {str(folder)!r}")
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{str(folder)!r} is not a checkpoint: it has no {FILE}") from None
    except OSError as error:
        raise CheckpointError(f"{file} can't be read: {error.strerror}") from None
    data = read_safely(file, _MOST_BYTES)
    description = parse_json(data, file)
    if not isinstance(description, dict) or "schema" not in description:
        raise CheckpointError(f"{file} is not the description of a preplay checkpoint")
    if description["schema"] != 1:  # which had no digest of itself
        check_schema(description, file)
        description = _unsealed(description, data, file)
    description = migrate(description, file)
    _check(description, file)
    return {key: description[key] for key in _FIELDS}


def write(folder: Path, description: Description) -> None:
    """Replaces the `config.json` of a folder, in one step.

    Raises:
        ConfigError: when something in it is no JSON.
    """
    write_atomically(folder / FILE, sealed(description))


def sealed(description: Description) -> bytes:
    """A description as text, with the SHA-256 of its content as its last field.

    Raises:
        ConfigError: when something in it is no JSON.
    """
    try:
        content = json.loads(json.dumps(description, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"the agent's configuration and info can't be stored as JSON: {error}") from None
    return (json.dumps(content | {"sha256": content_sha256(content)}, indent=2) + "\n").encode()


def check_storable(description: Description) -> None:
    """Makes sure that a description could be read again.

    Raises:
        ConfigError: when something in it is no JSON, or too long.
    """
    try:
        data = sealed(description)
        parse_json(data, FILE)
    except CheckpointError as error:
        raise ConfigError(f"the agent's configuration and info can't be stored: {error}") from None
    if len(data) > _MOST_BYTES // 2:
        raise ConfigError(
            f"the agent's configuration and info take {len(data):,} bytes; {_MOST_BYTES // 2:,} at most can be stored"
        )


def entry(written: Written) -> dict[str, dict[str, Any]]:
    """A file, as `files` lists it."""
    return {written.name: {"sha256": written.sha256, "bytes": written.bytes}}


def weights_of(description: Description) -> str:
    """The name of the weights file. There is exactly one in what `read` returns."""
    return next(name for name in description["files"] if is_weights(name))


def is_weights(name: str) -> bool:
    """Whether a file's name is one that we give to weights."""
    return _WEIGHTS.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Whether a name can be a file's in a checkpoint's list: one in the folder itself, other than the list's."""
    return _NAME.fullmatch(name) is not None and name != FILE


def _unsealed(description: Description, data: bytes, file: Path) -> Description:
    """The content of a description, when it is what its digest was made of and is written as we write it."""
    content = {key: x for key, x in description.items() if key != "sha256"}
    # White space aside: other line ends do no harm. But 1e-3 and 1E-3 are the same number, and one flipped bit apart.
    ours = json.dumps(description, indent=2).encode()
    if description.get("sha256") != content_sha256(content) or b"".join(data.split()) != b"".join(ours.split()):
        raise CheckpointError(
            f"{file} is damaged: its content does not match its own checksum; it is not meant to be edited"
        )
    return content


def _check(description: Description, file: Path) -> None:
    for key in description:
        if key not in _FIELDS:
            raise CheckpointError(
                f"{file} has a field {key[:80]!r} that is not known; it may come from a newer preplay"
            )
    for key, kind in _FIELDS.items():
        if key not in description:
            raise CheckpointError(f"{file} lacks {key!r}; the checkpoint is damaged")
        value = description[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = kind[0] if isinstance(kind, tuple) else kind
            raise CheckpointError(f"{file} has {_short(value)} as {key!r}; expected {wanted.__name__}")
    files = description["files"]
    for name, listed in files.items():
        if not is_name(name):
            raise CheckpointError(f"{file} names {name[:80]!r} as a file, which is no plain name of one in its folder")
        if not isinstance(listed, dict) or listed.keys() != {"sha256", "bytes"}:
            raise CheckpointError(f"{file} says {_short(listed)} of {name!r}; expected its sha256 and bytes")
        if not isinstance(listed["sha256"], str) or not _DIGEST.fullmatch(listed["sha256"]):
            raise CheckpointError(
                f"{file} has {_short(listed['sha256'])} as the sha256 of {name!r}; expected 64 digits"
            )
        if listed["bytes"] is not None and (type(listed["bytes"]) is not int or listed["bytes"] < 0):
            raise CheckpointError(f"{file} has {_short(listed['bytes'])} as the bytes of {name!r}; expected a size")
    weights = [name for name in files if is_weights(name)]
    if len(weights) != 1:
        raise CheckpointError(f"{file} names {len(weights)} weights files; expected one, weights-….safetensors")


def _short(value: Any) -> str:
    return repr(value)[:80]
