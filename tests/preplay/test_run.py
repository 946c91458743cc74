"""`preplay run`."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest

from agent import Episodes
from preplay import actors, video
from preplay.run import sentence
from tests.preplay.conftest import QUICK, TASK, save_agent


def run(preplay, *arguments):
    code, out, err = preplay("run", *arguments, "--json")
    assert code == 0, err
    assert err == ""
    assert out.count("\n") == 1  # one object and nothing else
    return json.loads(out)


def test_json_has_what_the_design_promises(preplay, checkpoint):
    result = run(preplay, TASK, "--checkpoint", checkpoint, "--episodes", 3, "--seed", 7, *QUICK)
    assert result["task"] == TASK
    assert result["checkpoint"] == str(checkpoint)
    assert result["planner"] == "mppi"
    assert result["episodes"] == len(result["returns"]) == 3
    assert result["seed"] == 7
    assert result["mean_return"] == pytest.approx(np.mean(result["returns"]))
    low, high = result["interval"]
    assert low <= result["mean_return"] <= high
    assert 0 < result["milliseconds"]["p50"] <= result["milliseconds"]["p95"] <= result["milliseconds"]["p99"]
    assert result["lengths"] == [25] * 3
    assert result["unstable"] == [False] * 3


def test_what_an_environment_prints_is_kept_away_from_the_object(preplay):
    code, out, err = preplay("run", "tests.envs.own:Chatty-v0", "--planner", "random", "--episodes", 2, "--json")
    assert code == 0
    assert json.loads(out)["returns"] == [20, 20]
    assert err == "robot ready\n" * 2


def test_nor_does_what_it_prints_in_another_process(preplay, tmp_path):
    chatty = "tests.envs.own:Chatty-v0"
    save_agent(tmp_path / "agent", chatty, 7)
    options = ["--checkpoint", tmp_path / "agent", "--planners", "shooting", "--budgets", "4x1", "--episodes", 1]
    code, out, err = preplay("compare", chatty, *options, "--workers", 1, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["task"] == chatty
    assert "robot ready" in err


def test_what_ended_early_is_told_of_what_terminated():
    episodes = Episodes([1, 2], [1.0, 2.0], [3, 100], [False, True], [True, False], [1.0])
    assert "1 of 2 ended by termination, after 100 decisions at the earliest" in sentence("mppi", episodes)


@pytest.mark.parametrize("planner", ["mppi", "cem", "policy", "random"])
def test_an_episode_is_the_same_whichever_others_are_played(preplay, checkpoint, planner):
    options = [TASK, "--checkpoint", checkpoint, "--planner", planner, *QUICK]
    both = run(preplay, *options, "--episodes", 2, "--seed", 5)
    alone = run(preplay, *options, "--episodes", 1, "--seed", 6)
    assert both["planner"] == planner
    assert both["returns"][1] == alone["returns"][0]


def test_random_actions_need_no_agent(preplay):
    result = run(preplay, "Hopper-v5", "--planner", "random", "--episodes", 4)
    assert result["terminated"] == [True] * 4
    assert max(result["lengths"]) < 500
    one = run(preplay, "Hopper-v5", "--planner", "random", "--episodes", 1)
    assert one["interval"] == [None, None]


def test_the_agents_action_repeat_is_kept(preplay, tmp_path):
    folder = save_agent(tmp_path / "agent", "Hopper-v5", 11, 3)
    result = run(preplay, "Hopper-v5", "--checkpoint", folder, "--episodes", 1, *QUICK)
    assert result["action_repeat"] == 2


def test_a_video_of_the_first_episode(preplay, checkpoint, tmp_path):
    file = tmp_path / "film.mp4"
    options = [TASK, "--checkpoint", checkpoint, "--planner", "policy", "--episodes", 2]
    filmed = run(preplay, *options, "--video", file)
    frames = imageio.imread(file)
    assert frames.shape == (26, video.HEIGHT, video.WIDTH, 3)
    assert frames.std() > 10
    assert (frames[0] != frames[-1]).any()
    assert imageio.immeta(file)["fps"] == 25
    assert {x.name for x in tmp_path.iterdir()} == {"film.mp4", "agent"}
    assert filmed["returns"] == run(preplay, *options)["returns"]  # filming changes nothing


def test_a_video_that_fails_leaves_the_older_one(tmp_path):
    file = tmp_path / "film.mp4"
    file.write_bytes(b"precious")

    def interrupted():
        with video.Video(file, 50) as film:
            film.add(np.zeros((video.HEIGHT, video.WIDTH, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [x.name for x in tmp_path.iterdir()] == ["film.mp4"]
    assert file.read_bytes() == b"precious"


def test_people_get_sentences(preplay, checkpoint):
    code, out, _ = preplay("run", TASK, "--checkpoint", checkpoint, "--planner", "policy", "--episodes", 2)
    assert code == 0
    assert "policy: mean return" in out
    assert "over 2 episodes, 95 % interval" in out
    assert "milliseconds a decision" in out
    code, out, _ = preplay("run", "Hopper-v5", "--planner", "random", "--episodes", 2)
    assert "2 of 2 ended by termination" in out


def test_the_cast_is_settled_by_names_alone(checkpoint):
    who = actors.cast(TASK, None, checkpoint, horizon=3, samples=None)
    assert who == actors.Cast(TASK, None, checkpoint, 2, (("horizon", 3),))
    env = who.env()
    assert who.actor(env).planning.horizon == 3
    env.close()
