"""Checkpoint folders as people with time on their hands might change them."""

import json
import struct

from agent import description as descriptions
from agent.files import sha256


def weights_of(folder):
    """The weights file."""
    (file,) = folder.glob("weights-*.safetensors")
    return file


def content_of(folder):
    """What `config.json` says, but for its own digest."""
    content = json.loads((folder / "config.json").read_text())
    del content["sha256"]
    return content


def seal(folder, content):
    """Writes `config.json` with a digest that fits."""
    (folder / "config.json").write_bytes(descriptions.sealed(content))


def edit(folder, **changes):
    """Changes fields; `a__b` is field b of a."""
    content = content_of(folder)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = content
        for key in parents:
            at = at[key]
        at[last] = value
    seal(folder, content)


def replace_weights(folder, data):
    """Other weights under the name of the real ones, with size and digest that fit."""
    file = weights_of(folder)
    file.write_bytes(data)
    edit(folder, files={file.name: {"sha256": sha256(data), "bytes": len(data)}})


def with_header(header, body):
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def taken_apart(data):
    """The header and the body of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def seal_anyhow(folder, content):
    """Writes `config.json` with a digest that fits, also where the content is no proper JSON."""
    digest = sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    (folder / "config.json").write_text(json.dumps({**content, "sha256": digest}, indent=2))
