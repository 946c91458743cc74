"""`preplay verify`: what is equal, what differs, and what can't be told."""

import json
import shutil

import pytest
import torch

from preplay import pool
from preplay.cli import main
from preplay.comparison.cells import Cell
from preplay.verify import spread
from tests.preplay.conftest import save_agent
from tests.preplay.test_compare import OWN, other_agent
from tests.preplay.test_wrong_input import assert_one_sentence

TRUSTED = "--task", OWN


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A finished comparison, and the agent that it was played with."""
    folder = tmp_path_factory.mktemp("verify")
    save_agent(folder / "agent", OWN, 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preplay.compare.play_jobs", lambda jobs, workers=None: map(pool.play_job, jobs))
        options = ["--planners", "mppi,cem", "--budgets", "8x1,1ms", "--episodes", "2", "--out", folder / "result"]
        main(["compare", OWN, "--checkpoint", str(folder / "agent"), *map(str, options)])
    return folder


@pytest.fixture
def result(played, tmp_path, monkeypatch):
    """A copy to tamper with; episodes are replayed in this process."""
    monkeypatch.setattr("preplay.verify.play_jobs", lambda jobs, workers=None: map(pool.play_job, jobs))
    return shutil.copytree(played / "result", tmp_path / "result")


def tamper(folder, change, where=lambda episode: True):
    """Changes the first recorded episode for which `where` holds."""
    file = folder / "episodes.jsonl"
    episodes = [json.loads(text) for text in file.read_text().splitlines()]
    change(next(each for each in episodes if where(each)))
    file.write_text("".join(json.dumps(each) + "\n" for each in episodes))


def fixed(episode):
    return episode["cell"]["budget"] == "8x1"


def test_what_was_not_touched_is_equal(preplay, result):
    code, said, err = preplay("verify", result, *TRUSTED)
    assert (code, err) == (0, "")
    assert said.count("equal  ") == 3
    assert "3 of 3 replayed episodes are equal, of 8 that can be replayed; 4 more have a budget of milliseconds" in said
    code, said, err = preplay("verify", result, *TRUSTED, "--all", "--json")
    assert code == 0
    told = json.loads(said)
    assert told["equal"]
    assert len({(each["cell"], each["seed"]) for each in told["episodes"]}) == 8
    assert "equal  " in err


@pytest.mark.parametrize("key", ["digest", "rewards", "return"])
def test_what_was_changed_differs(preplay, result, key):
    def change(episode):
        values = {"digest": "0" * 64, "rewards": [*episode["rewards"][:-1], 5.0], "return": episode["return"] + 1}
        episode[key] = values[key]

    tamper(result, change, fixed)
    code, said, _ = preplay("verify", result, *TRUSTED, "--all")
    assert code == 1
    assert "differs  mppi learned 8x1, seed 10000" in said
    assert "7 of 8 replayed episodes are equal" in said
    assert "another processor" in said
    assert ("isn't the sum of its rewards" in said) == (key != "digest")


def test_an_agent_that_is_kept_ready_plays_at_its_own_precision(preplay, result):
    for _ in range(2):  # it is loaded at the first time
        torch.set_float32_matmul_precision("high")  # as another agent may have asked for since
        assert preplay("verify", result, *TRUSTED)[0] == 0
        assert torch.get_float32_matmul_precision() != "high"


def test_a_reward_is_missed_even_where_nothing_is_replayed(preplay, result):
    def change(episode):
        episode["rewards"][0] += 1

    tamper(result, change, lambda episode: episode["cell"]["budget"] == "1ms")
    code, said, _ = preplay("verify", result, *TRUSTED, "--episodes", 1, "--json")
    told = json.loads(said)
    assert code == 1
    assert not told["equal"]
    assert told["damaged"] == [{"cell": "mppi learned 1ms", "seed": 10000}]


def test_the_agent_may_have_moved_but_not_changed(preplay, played, result, tmp_path):
    settings = json.loads((result / "comparison.json").read_text())
    settings["checkpoint"] = str(tmp_path / "gone")
    (result / "comparison.json").write_text(json.dumps(settings))
    assert_one_sentence(preplay("verify", result, *TRUSTED), "no trained agent ships", "--checkpoint")
    assert preplay("verify", result, *TRUSTED, "--checkpoint", played / "agent", "--episodes", 1)[0] == 0
    other = other_agent(tmp_path / "other")
    assert_one_sentence(preplay("verify", result, *TRUSTED, "--checkpoint", other), "weights", "--checkpoint")


def test_no_module_is_imported_that_the_user_does_not_name(preplay, result, tmp_path, monkeypatch):
    """A result may come from anybody."""
    (tmp_path / "theirs.py").write_text("import pathlib; pathlib.Path('imported').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = json.loads((result / "comparison.json").read_text())
    settings["fixed"]["task"] = "theirs:Id-v0"
    (result / "comparison.json").write_text(json.dumps(settings))
    assert_one_sentence(preplay("verify", result), "theirs:Id-v0", "--task")
    assert_one_sentence(preplay("verify", result, *TRUSTED), "are of theirs:Id-v0, not tests.envs.own")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("change", [{"task": 3}, {"weights": 5}, {"action_repeat": None}, {"device": 0}])
def test_settings_that_a_stranger_made(preplay, result, change):
    settings = json.loads((result / "comparison.json").read_text())
    settings["fixed"] |= change
    (result / "comparison.json").write_text(json.dumps(settings))
    assert_one_sentence(preplay("verify", result, *TRUSTED), "comparison.json", "damaged")


@pytest.mark.parametrize("change", [{"budget": "abc"}, {"options": "foo=1"}, {"options": "knots"}, {"horizon": "3"}])
def test_an_episode_that_a_stranger_made(preplay, result, change):
    file = result / "episodes.jsonl"
    first, *rest = file.read_text().splitlines()
    values = json.loads(first)
    values["cell"] |= change
    file.write_text("\n".join([json.dumps(values), *rest]) + "\n")
    assert_one_sentence(preplay("verify", result, *TRUSTED), "line 1", "damaged")


def test_a_comparison_that_does_not_say_where_its_agent_lies(preplay, result):
    settings = json.loads((result / "comparison.json").read_text())
    settings["fixed"]["weights"], settings["checkpoint"] = "0" * 64, None
    (result / "comparison.json").write_text(json.dumps(settings))
    assert_one_sentence(preplay("verify", result, *TRUSTED), "where the agent lies", "--checkpoint")


def test_mistakes(preplay, result, tmp_path):
    assert_one_sentence(preplay("verify", tmp_path / "nowhere"), "no folder", "nowhere")
    (tmp_path / "empty").mkdir()
    assert_one_sentence(preplay("verify", tmp_path / "empty"), "holds no comparison")
    assert_one_sentence(preplay("verify", result, *TRUSTED, "--episodes", 0), "at least 1")
    file = result / "episodes.jsonl"
    text = file.read_text()
    file.write_text("{}\n" + text)
    assert_one_sentence(preplay("verify", result, *TRUSTED), "line 1", "damaged")
    file.write_text("")
    assert_one_sentence(preplay("verify", result, *TRUSTED), "no episodes yet")
    (result / "comparison.json").write_text("{")
    assert_one_sentence(preplay("verify", result, *TRUSTED), "comparison.json", "damaged")
    (result / "comparison.json").write_text('{"schema": 99}')
    assert_one_sentence(preplay("verify", result, *TRUSTED), "schema 99")


def test_nothing_but_timed_episodes(preplay, result):
    file = result / "episodes.jsonl"
    timed = [text for text in file.read_text().splitlines(keepends=True) if '"1ms"' in text]
    file.write_text("".join(timed))
    assert_one_sentence(preplay("verify", result, *TRUSTED), "milliseconds", "none can be replayed")


def test_replays_are_spread_over_the_cells():
    places = [(Cell(name), seed) for name in ("policy", "random", "other") for seed in range(5)]
    for count in (1, 3, 4, 15, 99):
        chosen = spread(places, count)
        assert len(chosen) == len(set(chosen)) == min(count, 15)
        assert len({cell for cell, _ in chosen}) == min(count, 3)
        assert chosen == spread(places, count)
