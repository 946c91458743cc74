import errno
import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from agent import Agent, AgentInfo, CheckpointError, DivergedError, describe, preset
from agent.config import to_dict
from tests.agent.toy import tiny_agent


@pytest.fixture
def folder(tmp_path):
    agent = tiny_agent()
    agent.model.norm.update(torch.randn(50, 5) * 1e5)  # statistics beyond half precision's range
    agent.save(tmp_path / "agent")
    return tmp_path / "agent"


def weights_of(folder):
    (file,) = folder.glob("weights-*.safetensors")
    return file


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = config
        for key in parents:
            at = at[key]
        at[last] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_what_is_loaded_acts_like_what_was_saved(tmp_path):
    agent = tiny_agent()
    agent.info.training["steps"] = 7
    agent.save(tmp_path)
    loaded = Agent.load(tmp_path)
    assert loaded.info == agent.info
    assert to_dict(loaded.config) == to_dict(agent.config)
    for a in (agent, loaded):
        a.seed(3)
        a.reset()
    assert np.array_equal(agent.act(np.ones(5)), loaded.act(np.ones(5)))


def test_angles_are_kept_and_older_agents_have_none(tmp_path):
    Agent(preset("tiny"), 5, 2, AgentInfo("toy", angles=(1, 4)), "cpu").save(tmp_path)
    assert Agent.load(tmp_path).info.angles == (1, 4)
    tiny_agent().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["angles"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Agent.load(tmp_path).info.angles == ()


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path):
    agent = tiny_agent()
    agent.model.norm.update(torch.randn(50, 5) * 1e5)
    agent.save(tmp_path / "full")
    agent.save(tmp_path / "half", half=True)
    assert weights_of(tmp_path / "half").stat().st_size < 0.55 * weights_of(tmp_path / "full").stat().st_size
    loaded = Agent.load(tmp_path / "half").model.state_dict()
    for name, x in agent.model.state_dict().items():
        torch.testing.assert_close(loaded[name], x, rtol=1e-3, atol=1e-6)
    assert describe(tmp_path / "half")["precision"] == "float16"


def test_saving_again_leaves_one_checkpoint(folder):
    first = weights_of(folder).name
    other = tiny_agent()
    with torch.no_grad():
        other.model.policy[0].bias += 1
    other.save(folder)
    assert weights_of(folder).name != first
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", weights_of(folder).name]


@pytest.mark.parametrize("call", range(6))
def test_a_full_disk_at_any_moment_leaves_the_old_checkpoint_whole(folder, monkeypatch, call):
    """The disk is full at the n-th sync or rename of a save; the old agent still loads, and no litter is left."""
    before = {p.name for p in folder.iterdir()}
    old = Agent.load(folder).model.state_dict()
    calls = iter(range(100))

    def failing(real):
        def wrapped(*args, **kwargs):
            if next(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    other = tiny_agent()
    with torch.no_grad():
        other.model.policy[0].bias += 1
    with pytest.raises(OSError, match="No space"):
        other.save(folder)
    monkeypatch.undo()
    now = Agent.load(folder).model.state_dict()
    committed = call >= 5  # only the directory's own sync comes after the last rename
    assert torch.equal(now["policy.0.bias"], (other.model.state_dict() if committed else old)["policy.0.bias"])
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]
    assert before <= {p.name for p in folder.iterdir()}


def refused(folder, *said):
    with pytest.raises(CheckpointError) as error:
        Agent.load(folder)
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def test_missing(tmp_path):
    refused(tmp_path / "nothing", "no checkpoint folder")
    refused(tmp_path, "has no config.json")


def test_truncated_or_changed_weights(folder):
    file = weights_of(folder)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    refused(folder, "damaged")
    flipped = bytearray(data)
    flipped[-5] ^= 1
    file.write_bytes(flipped)
    refused(folder, "damaged")
    file.unlink()
    refused(folder, "incomplete")


def test_a_pickle_under_the_weights_name(folder):
    data = pickle.dumps({"a": 1})
    weights_of(folder).write_bytes(data)
    edit(folder, weights__sha256=hashlib.sha256(data).hexdigest())
    refused(folder, "not a safetensors file")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "config": 3, "weights": {}}'])
def test_damaged_descriptions(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 99}, "schema 99"),
        ({"config__modle": {}}, "unknown setting 'config.modle'; did you mean 'model'"),
        ({"config__model__latent_dim": "big"}, "latent_dim"),
        ({"config__model__latent_dim": 72}, "does not hold the model"),
        ({"config__model__hidden_dim": 10**9}, "hidden_dim is 1000000000"),
        ({"config__model__hidden_dim": 16_000}, "impossible size"),
        ({"config__planning__planner": 5}, "planner"),
        ({"observation_dim": 6}, "does not hold the model"),
        ({"action_dim": 0}, "action_dim is 0"),
        ({"action_repeat": 0}, "action_repeat is 0"),
        ({"decisions": -5}, "decisions is -5"),
        ({"angles": [5]}, "angles"),
        ({"angles": [-1]}, "angles"),
        ({"angles": [[0]]}, "angles"),
        ({"angles": {}}, "angles"),
        ({"angles": [0]}, "does not hold the model"),
        ({"config__planning__planner": "magic"}, "magic"),
        ({"weights__sha256": 5}, "sha256"),
        ({"task": None}, "task"),
        ({"weights__file": "../../etc/passwd"}, "no weights file"),
        ({"weights__file": "/etc/passwd"}, "no weights file"),
    ],
)
def test_descriptions_that_do_not_fit(folder, changes, said):
    edit(folder, **changes)
    refused(folder, said)


def test_weights_that_are_not_finite(folder):
    tensors = safetensors.torch.load_file(weights_of(folder))
    tensors["policy.0.bias"][0] = float("nan")
    safetensors.torch.save_file(tensors, weights_of(folder))
    edit(folder, weights__sha256=hashlib.sha256(weights_of(folder).read_bytes()).hexdigest())
    refused(folder, "NaN or infinite weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_a_model_that_could_not_be_loaded_again_is_not_saved(folder, value):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    agent = tiny_agent()
    with torch.no_grad():
        agent.model.policy[0].bias[0] = value
    with pytest.raises(DivergedError, match=r"policy.0.bias"):
        agent.save(folder, half=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
