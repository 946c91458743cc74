"""Checkpoints made by somebody who means harm are refused in a sentence, at no cost."""

import json
import os
import pickle
import shutil
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from agent import Agent, CheckpointError, describe
from agent.checkpoint import attach, verify
from agent.files import sha256
from tests.agent.folders import content_of, edit, replace_weights, seal, taken_apart, weights_of, with_header

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(params=["schema1-angles", "schema2-angles"])
def folder(request, tmp_path):
    return shutil.copytree(GOLDEN / request.param, tmp_path / "agent")


@pytest.fixture
def new(tmp_path):
    return shutil.copytree(GOLDEN / "schema2-angles", tmp_path / "agent")


@pytest.fixture(autouse=True, scope="module")
def warm():
    """The first model without memory makes torch import SymPy, which is not what is measured here."""
    Agent.load(GOLDEN / "schema2-angles", "cpu")


@pytest.fixture(autouse=True)
def no_memory_for_what_is_refused(monkeypatch):
    """Whatever is refused is so before a model is made."""
    made = []
    real = Agent.__init__
    monkeypatch.setattr(Agent, "__init__", lambda self, *args, **kwargs: made.append(1) or real(self, *args, **kwargs))
    return made


def refused(folder, *said):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as error:
            Agent.load(folder, "cpu")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    sentence = str(error.value)
    assert "\n" not in sentence
    assert len(sentence) < 1000
    for words in said:
        assert words in sentence


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("pack", [pickle.dumps, lambda x: torch_saved(x)])
def test_a_pickle_under_a_safetensors_name(new, tmp_path, pack, no_memory_for_what_is_refused):
    replace_weights(new, pack(Bomb(tmp_path / "exploded")))
    refused(new, "not a safetensors file")
    assert not (tmp_path / "exploded").exists()
    assert not no_memory_for_what_is_refused


def torch_saved(x):
    import io

    file = io.BytesIO()
    torch.save(x, file)
    return file.getvalue()


@pytest.mark.parametrize("left", [0, 1, 7, 8, 9, 500, -1])
def test_a_truncated_file(folder, left, no_memory_for_what_is_refused):
    data = weights_of(folder).read_bytes()[:left]
    weights_of(folder).write_bytes(data)
    refused(folder, weights_of(folder).name)
    assert not no_memory_for_what_is_refused
    if describe(folder)["files"][weights_of(folder).name]["bytes"] is not None:
        replace_weights(folder, data)  # with a checksum that fits
        refused(folder, weights_of(folder).name)


def test_a_file_with_more_at_its_end(folder):
    weights_of(folder).write_bytes(weights_of(folder).read_bytes() + b"\0" * 8)
    refused(folder, "damaged")


def test_a_flipped_bit(folder):
    data = weights_of(folder).read_bytes()
    for place in (0, 7, 8, 30, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 4
        weights_of(folder).write_bytes(flipped)
        refused(folder, weights_of(folder).name)


@pytest.mark.parametrize("length", [2**16, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_would_be_terabytes_long(new, length):
    data = weights_of(new).read_bytes()
    replace_weights(new, length.to_bytes(8, "little") + data[8:])
    refused(new, "its header would have")


def test_a_header_that_claims_terabytes(new):
    header, body = taken_apart(weights_of(new).read_bytes())
    name = next(iter(header))
    for shape in ([2**40], [2**20, 2**20], [2**63, 2**63], [10**30]):
        replace_weights(new, with_header(header | {name: header[name] | {"shape": shape}}, body))
        refused(new, "does not hold the model", name)
        end = {"shape": shape, "data_offsets": [0, 4 * int(np.prod([int(x) for x in shape], dtype=object))]}
        replace_weights(new, with_header(header | {name: header[name] | end}, body))
        refused(new, "does not hold the model", name)


def test_a_file_of_a_terabyte(folder):
    os.truncate(weights_of(folder), 2**40)
    refused(folder, weights_of(folder).name)
    if describe(folder)["files"][weights_of(folder).name]["bytes"] is not None:
        edit(folder, files={weights_of(folder).name: {"sha256": "0" * 64, "bytes": 2**40}})
        refused(folder, "needs")


def test_a_configuration_that_claims_a_model_of_a_gigabyte(new, no_memory_for_what_is_refused):
    edit(new, config__model__hidden_dim=2500)
    refused(new, "does not hold the model")
    edit(new, config__model__hidden_dim=16_384)
    refused(new, "impossible size")
    edit(new, observation_dim=10**12)
    refused(new, "impossible size")
    assert not no_memory_for_what_is_refused


def test_a_description_of_a_gigabyte(folder):
    os.truncate(folder / "config.json", 2**30)
    refused(folder, "expected 1,048,576 at most")


NAMES = [
    "../weights-{}",
    "/etc/passwd",
    "{path}",
    "a/weights-{}",
    "./weights-{}",
    "..",
    "",
    "~/x",
    "a\\b",
    "weights\0",
    "C:x",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(folder, name):
    name = name.format("137a478b2f2a.safetensors", path=weights_of(folder).resolve())
    shutil.copy(weights_of(folder), folder.parent)
    description = json.loads((folder / "config.json").read_text())
    if description["schema"] == 1:
        description["weights"]["file"] = name
        (folder / "config.json").write_text(json.dumps(description))
    else:
        content = content_of(folder)
        content["files"][name] = content["files"].pop(weights_of(folder).name)
        seal(folder, content)
    refused(folder, "no plain name")
    with pytest.raises(CheckpointError):
        verify(folder)


@pytest.mark.parametrize("target", ["elsewhere", "here", "nowhere"])
def test_weights_behind_a_symbolic_link(folder, target):
    place = {"elsewhere": folder.parent, "here": folder, "nowhere": folder / "nowhere"}[target] / "real"
    if target == "nowhere":
        weights_of(folder).rename(folder / "gone")
        name = json.loads((GOLDEN / "schema1-angles/config.json").read_text())["weights"]["file"]
    else:
        name = weights_of(folder).rename(place) and "weights-137a478b2f2a.safetensors"
    (folder / name).symlink_to(place)
    refused(folder, "is a symbolic link")
    assert any("is a symbolic link" in wrong for wrong in verify(folder))


def test_a_description_behind_a_symbolic_link(folder):
    (folder / "config.json").rename(folder.parent / "real.json")
    (folder / "config.json").symlink_to(folder.parent / "real.json")
    refused(folder, "is a symbolic link")


def test_a_folder_behind_a_symbolic_link_is_fine(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    Agent.load(tmp_path / "link", "cpu")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("which", ["weights", "config"])
def test_a_pipe_or_a_folder_in_place_of_a_file(folder, make, which):
    file = weights_of(folder) if which == "weights" else folder / "config.json"
    file.unlink()
    make(file)
    refused(folder, "is no regular file")


def test_a_link_in_the_way_of_a_file_that_is_written(new, tmp_path):
    """Whoever can write beside a checkpoint still can't have it written through a link elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (new / f".CARD.md.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError):  # noqa: PT011 - the number tells
        attach(new, "CARD.md", b"x")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["{}:Planner", "{}.Planner", "{}", "planners.{}", "../{}", "{}\n"])
def test_a_configuration_that_names_a_class(new, tmp_path, monkeypatch, name):
    (tmp_path / "canary_of_preplay.py").write_text(f"open({str(tmp_path / 'sung')!r}, 'w')\nPlanner = object")
    monkeypatch.syspath_prepend(tmp_path)
    edit(new, config__planning__planner=name.format("canary_of_preplay"))
    before = set(sys.modules)
    refused(new, "unknown planner")
    assert not (tmp_path / "sung").exists()
    assert not [module for module in set(sys.modules) - before if "canary" in module]


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 2, "schema": 1}',
        '{"schema": ' + "9" * 5000 + "}",
        '{"schema": 1e999}',
        '{"schema": NaN}',
        '{"schema": -Infinity}',
        '{"schema": "\\ud800"}',
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"schema": ' + "[" * 40 + "]" * 40 + "}",
        "\ufeff{}",
        "\x00",
        "null",
    ],
)
def test_json_that_is_odd(new, text):
    (new / "config.json").write_text(text)
    refused(new)


def test_a_description_that_is_no_text(new):
    (new / "config.json").write_bytes(b"\xff\xfe{}")
    refused(new, "can't be read")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_load_only_when_asked(new, value):
    tensors = safetensors.torch.load(weights_of(new).read_bytes())
    tensors["policy.0.bias"][0] = value
    replace_weights(new, safetensors.torch.save(tensors))
    refused(new, "NaN or infinite", "allow_nan=True")
    assert not torch.isfinite(Agent.load(new, "cpu", allow_nan=True).model.state_dict()["policy.0.bias"][0])


def test_tensors_of_other_types(new):
    tensors = safetensors.torch.load(weights_of(new).read_bytes())
    for dtype in (torch.float64, torch.int32, torch.float16, torch.complex64):
        replace_weights(new, safetensors.torch.save(tensors | {"policy.0.bias": tensors["policy.0.bias"].to(dtype)}))
        refused(new, "does not hold the model", "policy.0.bias")


def test_an_old_schema_that_is_none(tmp_path):
    folder = shutil.copytree(GOLDEN / "schema1-angles", tmp_path / "agent")
    for change in ({"weights": 5}, {"weights": {}}, {"weights": {"file": [], "sha256": "x"}}, {"files": {}}):
        description = json.loads((GOLDEN / "schema1-angles/config.json").read_text())
        (folder / "config.json").write_text(json.dumps(description | change))
        refused(folder)


def test_weights_of_another_agent(new):
    shutil.copy(next((GOLDEN / "schema2-half").glob("weights-*")), weights_of(new))
    refused(new, "damaged")
    assert sha256(weights_of(new).read_bytes()) != describe(new)["weights"]["sha256"]
