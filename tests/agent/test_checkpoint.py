import errno
import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from agent import Agent, AgentInfo, CheckpointError, ConfigError, DivergedError, describe, preset
from agent.checkpoint import SCHEMA, attach, verify
from agent.config import to_dict
from tests.agent.folders import content_of, edit, replace_weights, seal, weights_of
from tests.agent.toy import tiny_agent


@pytest.fixture
def folder(tmp_path):
    agent = tiny_agent()
    agent.model.norm.update(torch.randn(50, 5) * 1e5)  # statistics beyond half precision's range
    agent.save(tmp_path / "agent")
    return tmp_path / "agent"


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


def test_angles_are_kept(tmp_path):
    Agent(preset("tiny"), 5, 2, AgentInfo("toy", angles=(1, 4)), "cpu").save(tmp_path)
    assert Agent.load(tmp_path).info.angles == (1, 4)
    tiny_agent().save(tmp_path)
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
    replace_weights(folder, pickle.dumps({"a": 1}))
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
        ({"config__model__encoder_dim": 3_000, "config__model__value_heads": 64}, "impossible size"),
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
        ({"config__device": 5}, "device"),
        ({"config__planning__planner": "os:system"}, "unknown planner 'os:system'"),
        ({"config__planning__planner": "planners.mppi.MPPI"}, "unknown planner 'planners.mppi.MPPI'"),
        ({"config__planning__planner": {"_target_": "os.system"}}, "planning.planner is {'_target_'"),
        ({"config__model": {"_target_": "agent.world_model.WorldModel"}}, "unknown setting 'config.model._target_'"),
        ({"config__planning__knots": 5}, "knots"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"precision": "float16"}, "does not hold the model"),
        ({"schema": SCHEMA + 1}, "newer preplay"),
        ({"schema": True}, "schema True"),
        ({"schema": 3, "config": []}, "lacks what schema 3 has"),
        ({"schema": 4, "config__learner": "fast"}, "lacks what schema 4 has"),
        ({"schema": 5, "config__model__encoder_blocks": 1}, "encoder_blocks is 1, and residual encoders were taken"),
        ({"surprise": 1}, "a field 'surprise' that is not known; it may come from a newer preplay"),
        ({"files": {}}, "0 weights files"),
        ({"files": []}, "files"),
        ({"files__CARD": 5}, "says 5 of 'CARD'"),
        ({"files__CARD": {"sha256": 5, "bytes": 1}}, "sha256"),
        ({"files__CARD": {"sha256": "0" * 64, "bytes": -1}}, "bytes"),
        ({"task": None}, "task"),
        ({"training": []}, "training"),
    ],
)
def test_descriptions_that_do_not_fit(folder, changes, said):
    edit(folder, **changes)
    refused(folder, said)


def test_weights_that_are_not_finite(folder):
    tensors = safetensors.torch.load_file(weights_of(folder))
    tensors["policy.0.bias"][0] = float("nan")
    replace_weights(folder, safetensors.torch.save(tensors))
    refused(folder, "NaN or infinite weights", "allow_nan=True")
    loaded = Agent.load(folder, allow_nan=True).model.state_dict()
    assert torch.isnan(loaded["policy.0.bias"][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_a_model_that_could_not_be_loaded_again_is_not_saved(folder, value):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    agent = tiny_agent()
    with torch.no_grad():
        agent.model.policy[0].bias[0] = value
    with pytest.raises(DivergedError, match=r"policy.0.bias"):
        agent.save(folder, half=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_card_is_listed_and_acting_does_not_depend_on_it(folder):
    attach(folder, "CARD.md", b"it walks")
    assert describe(folder)["files"]["CARD.md"] == {"sha256": hashlib.sha256(b"it walks").hexdigest(), "bytes": 8}
    assert verify(folder) == []
    (folder / "CARD.md").write_bytes(b"it flies")
    assert ["CARD.md is not what was stored" in wrong for wrong in verify(folder)] == [True]
    Agent.load(folder)
    (folder / "CARD.md").unlink()
    assert ["there is no file" in wrong for wrong in verify(folder)] == [True]
    Agent.load(folder)


def test_verify_tells_of_damaged_weights(folder):
    data = bytearray(weights_of(folder).read_bytes())
    data[-5] ^= 1
    weights_of(folder).write_bytes(data)
    assert [weights_of(folder).name in wrong for wrong in verify(folder)] == [True]


@pytest.mark.parametrize("call", range(6))
def test_a_full_disk_while_a_card_is_attached_leaves_an_agent_that_loads(folder, monkeypatch, call):
    attach(folder, "CARD.md", b"old")
    calls = iter(range(100))

    def failing(real):
        def wrapped(*args, **kwargs):
            if next(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    with pytest.raises(OSError, match="No space"):
        attach(folder, "CARD.md", b"new")
    monkeypatch.undo()
    Agent.load(folder)
    card = (folder / "CARD.md").read_bytes()
    assert card in (b"old", b"new")
    assert (verify(folder) == []) == ((card == b"old") or call == 5)
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]


@pytest.mark.parametrize(
    "name", ["config.json", "../CARD.md", "/CARD.md", "a/b", "", ".", "..", "weights-0123456789ab.safetensors"]
)
def test_only_plain_names_can_be_attached(folder, name):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(CheckpointError, match="is no name for a file of a checkpoint"):
        attach(folder, name, b"x")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("key", ["task", "files", "config", "precision", "angles", "schema"])
def test_a_field_that_is_missing(folder, key):
    content = content_of(folder)
    del content[key]
    seal(folder, content)
    refused(folder, "lacks" if key != "schema" else "not the description")


def test_an_edited_description_is_refused_and_other_line_ends_are_not(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_bytes(text.replace("\n", "\r\n").encode())
    Agent.load(folder)
    (folder / "config.json").write_text(json.dumps(json.loads(text)))
    Agent.load(folder)
    for changed in (
        text.replace('"toy"', '"joy"'),
        text.replace("0.0001", "1e-4"),
        text.replace('"sha256": "', '"sha256": "0'),
    ):
        assert changed != text
        (folder / "config.json").write_text(changed)
        refused(folder, "damaged")


def test_info_that_is_no_json_is_not_saved(folder):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for value in (float("nan"), object()):
        agent = tiny_agent()
        agent.info.training["x"] = value
        with torch.no_grad():
            agent.model.policy[0].bias += 1
        with pytest.raises(ConfigError, match="can't be stored as JSON"):
            agent.save(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_info_with_keys_that_are_numbers_loads_again(folder):
    agent = tiny_agent()
    agent.info.training = {"returns": {2: (1.0, 2), 10: None}}
    agent.save(folder)
    assert Agent.load(folder).info.training == {"returns": {"2": [1.0, 2], "10": None}}


def test_an_agent_of_another_device_loads_here(folder):
    edit(folder, config__device="cuda")
    agent = Agent.load(folder, "cpu")
    assert agent.act(np.ones(5)).shape == (2,)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch finds no GPU"):
            Agent.load(folder, "cuda")


def test_loading_leaves_the_global_random_state_alone(folder):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Agent.load(folder)
    assert torch.equal(torch.rand(3), expected)
