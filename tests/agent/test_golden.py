"""Checkpoints of every schema load for ever, and act as they did in their day."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent import Agent, describe
from agent.checkpoint import SCHEMA, attach, verify

GOLDEN = Path(__file__).parent.parent / "golden"
FOLDERS = sorted(folder for folder in GOLDEN.iterdir() if (folder / "config.json").exists())


def test_there_are_some_of_every_schema():
    schemas = {json.loads((folder / "config.json").read_text())["schema"] for folder in FOLDERS}
    assert schemas == set(range(1, SCHEMA + 1))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_acts_as_it_did(folder):
    expected = json.loads((folder / "expected.json").read_text())
    agent = Agent.load(folder, "cpu")
    assert agent.info.task == "golden"
    assert describe(folder)["schema"] == SCHEMA
    assert verify(folder) == []
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000
    assert set(expected["actions"]) >= {"policy", "mppi"}
    for planner, actions in expected["actions"].items():
        agent.use_planner(planner=planner)
        agent.seed(expected["seed"])
        acted = [agent.act(np.array(observation)) for observation in expected["observations"]]
        np.testing.assert_allclose(acted, actions, atol=1e-5)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_can_be_brought_to_the_schema_of_today(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    attach(tmp_path, "CARD.md", b"a card")
    assert json.loads((tmp_path / "config.json").read_text())["schema"] == SCHEMA
    assert verify(tmp_path) == []
    before, after = describe(folder), describe(tmp_path)
    assert after.pop("files")["CARD.md"]["bytes"] == 6
    before.pop("files")
    assert after == before
    states = [Agent.load(place, "cpu").model.state_dict() for place in (folder, tmp_path)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
