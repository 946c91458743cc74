"""What the critic expects, beside what is earned."""

import json

import numpy as np
import pytest

from agent import Agent, bootstrap_interval
from benchmarks.bias import Bias, Watched, counted, main, measure
from preplay.errors import UsageError
from preplay.shipped import shipped


def test_decisions_count_whose_rest_matters_little():
    assert counted(500, False, 0.99) == 500 - 299  # 0.99^299 is just below a twentieth, 0.99^298 just above
    assert counted(200, False, 0.99) == 0
    assert counted(200, True, 0.99) == 200


def test_a_watched_agent_acts_as_it_would_and_tells_what_the_critic_expects():
    agent, alone = (Agent.load(shipped()["cartpole-swingup-sparse"], "cpu") for _ in range(2))
    watched = Watched(agent)
    observations = np.random.default_rng(0).normal(size=(3, agent.model.observation_dim)).astype(np.float32)
    for actor in (watched, alone):
        actor.seed(3)
        actor.reset()
    actions = [watched.act(observation) for observation in observations]
    np.testing.assert_array_equal(actions, [alone.act(observation) for observation in observations])
    agent.use_planner(planner="policy")  # whose action it is that `value` values
    watched.act(observations[0])
    assert watched.values[-1] == pytest.approx(float(agent.value(agent._observation(observations[0]))[0]), rel=1e-5)


def test_a_row_of_an_agent():
    folder = shipped()["cartpole-swingup-sparse"]
    row = measure(folder, "policy", range(10_000, 10_002))
    assert row["task"] == row["agent"] == "cartpole-swingup-sparse"
    assert (row["planner"], row["episodes"]) == ("policy", 2)
    assert row["excess"] == pytest.approx(row["expected"] - row["earned"])
    low, high = row["interval"]
    assert low <= row["excess"] <= high
    # It balances the pole all along, which its critic knows.
    assert row["mean_return"] > 600
    assert abs(row["excess"]) < 0.2 * row["earned"]


def test_no_episodes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        main(Bias(episodes=0, out=tmp_path / "bias.json"))
    assert not (tmp_path / "bias.json").exists()


def test_the_command_writes_what_it_found(tmp_path, monkeypatch, capsys):
    row = {"agent": "walker-run", "planner": "policy", "mean_return": 1.0, "expected": 3.0, "earned": 2.5}
    row |= {"excess": 0.5, "interval": bootstrap_interval([0.5])}
    monkeypatch.setattr("benchmarks.bias.measure", lambda *_: row)
    main(Bias((shipped()["walker-run"],), out=tmp_path / "deep" / "bias.json"))
    written = json.loads((tmp_path / "deep" / "bias.json").read_text())
    assert [each["excess"] for each in written["rows"]] == [0.5, 0.5]
    assert "commit" in written
    assert "walker-run" in capsys.readouterr().out
