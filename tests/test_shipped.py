"""The agents that ship are whole, light, and what their cards say they are."""

import json
import re

import pytest

import envs
from agent import Agent, describe, preset
from agent.checkpoint import SCHEMA, verify
from agent.config import to_dict
from preplay.card import card, read_metrics
from preplay.shipped import shipped

AGENTS = shipped()
# Mean return over ten episodes, planner on, that each must have been evaluated with.
BARS = {
    "cartpole-swingup": 800,
    "walker-walk": 900,
    "reacher-easy": 850,
    "cheetah-run": 650,
    "Hopper-v5": 3000,
    "Walker2d-v5": 4000,
    "walker-run": 750,
    "hopper-hop": 300,
    "acrobot-swingup": 180,
    "quadruped-run": 800,
    "reacher-hard": 900,
    "cartpole-swingup-sparse": 700,
}
# Those that explored as the fourth recipe or the fifth did, which their commits alone tell.
EXPLORED_OTHERWISE = {"hopper-hop": "61bbb42cde89", "walker-run": "61bbb42cde89", "acrobot-swingup": "212ba9d51171"}
# Environment steps of those that did not get 100,000.
STEPS = {"Hopper-v5": 60_000}
# How long and from which seed a run learns, how it is watched, and what computes it.
FREE = {"steps", "seed", "evaluate_every", "evaluation_episodes", "device", "matmul_precision", "compile"}


def test_the_promised_agents_ship():
    assert set(AGENTS) == set(BARS)


@pytest.mark.parametrize("task", AGENTS)
def test_an_agent_is_whole_and_light(task):
    folder = AGENTS[task]
    files = {file.name for file in folder.iterdir()}
    description = describe(folder)
    assert files == {"config.json", "metrics.jsonl", *description["files"]}
    assert description["files"].keys() == {"CARD.md", description["weights"]["file"]}
    assert json.loads((folder / "config.json").read_text())["schema"] == SCHEMA
    assert verify(folder) == []
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    agent = Agent.load(folder, "cpu")
    env = envs.make(task, action_repeat=agent.info.action_repeat, seed=0)
    observation, _ = env.reset()
    assert agent.act(observation) in env.action_space
    env.close()


@pytest.mark.parametrize("task", AGENTS)
def test_its_card_tells_what_was_recorded(task):
    description, records = describe(AGENTS[task]), read_metrics(AGENTS[task])
    assert (AGENTS[task] / "CARD.md").read_text() == card(description, records)
    final = {record["planner"]: record for record in records if record["kind"] == "final"}
    assert set(final) == {"mppi", "policy"}
    assert final["mppi"]["seeds"] == final["policy"]["seeds"] == list(range(10_000, 10_010))
    assert final["mppi"]["mean_return"] >= BARS[task]
    assert description["training"]["steps"] == STEPS.get(task, 100_000)
    assert re.fullmatch(r"[0-9a-f]{12}\+?", description["training"]["commit"])


@pytest.mark.parametrize("task", AGENTS)
def test_an_agent_has_the_defaults_of_today(task):
    config, default = to_dict(Agent.load(AGENTS[task], "cpu").config), to_dict(preset("small"))
    for key in FREE:
        del config[key], default[key]
    assert config == default
    if task in EXPLORED_OTHERWISE:
        assert describe(AGENTS[task])["training"]["commit"] == EXPLORED_OTHERWISE[task]
