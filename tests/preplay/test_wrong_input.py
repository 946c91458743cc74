"""Every mistake a user can make gets one clear sentence, exit code 2, and loses nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from agent import Agent, AgentInfo, Experience, PlanningConfig, preset
from preplay.train import check_folder
from preplay.video import Video
from tests.preplay.conftest import QUICK, TASK, save_agent

TRAIN = ["train", TASK, "--preset", "tiny"]


def assert_one_sentence(result, *words):
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("preplay: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu", "walker-walk"], ["'rnu'", "'run'"]),
        (["fly"], ["unknown command", "train"]),
        (["run"], ["TASK", "preplay run --help"]),
        (["run", "walker-wlak"], ["'walker-wlak'", "walker-walk", "preplay tasks"]),
        (["run", "Hoper-v5"], ["Hopper-v5"]),
        (["train", "walker-wlak"], ["walker-walk"]),
        (["demo", "--tasks", "walker-wlak"], ["walker-walk"]),
        (["run", "CartPole-v1"], ["CartPole-v1"]),
        (["train", "CartPole-v1"], ["Discrete(2)", "continuous"]),
        (["run", TASK, "--planner", "mpi"], ["'mpi'", "'mppi'"]),
        (["run", "cheetah-run", "--pessimism", "2"], ["pessimism", "between 0 and 1"]),
        (["run", TASK, "--model", "simulator", "--pessimism", "1"], ["--pessimism", "learned model"]),
        (["run", TASK, "--planner", "magic"], ["'magic'", "mppi", "policy", "random"]),
        (["demo", "--planners", "magic"], ["'magic'"]),
        (["train", TASK, "--planning.planner", "magic"], ["'magic'", "mppi"]),
        (["train", TASK, "--preset", "smal"], ["'smal'", "'small'"]),
        (["train", TASK, "--stpes", "10"], ["--stpes", "--steps"]),
        (["train", TASK, "--steps", "many"], ["--steps", "'many'"]),
        (["train", TASK, "--steps", "0"], ["steps"]),
        (["train", TASK, "--model.latent-dim", "130"], ["latent_dim", "multiple"]),
        (["train", TASK, "--learner.discount", "2"], ["discount", "between 0 and 1"]),
        (["train", TASK, "--device", "tpu"], ["'tpu'", "auto"]),
        (["train", TASK, "--action-repeat", "0"], ["action_repeat"]),
        (["run", TASK, "--planer", "cem"], ["--planer", "--planner"]),
        (["run", TASK, "--episodes", "0"], ["--episodes", "at least 1"]),
        (["run", TASK, "--seed", "-1"], ["--seed"]),
        (["run", TASK, "--seed", str(2**31)], ["--seed", "2147483647"]),
        (["run", TASK, "--episodes", str(10**10)], ["--episodes", "10000000000"]),
        (["run", "lqr-lqr-6-2", "--planner", "random"], ["no time limit", "max_episode_steps"]),
        (["train", "lqr-lqr-6-2"], ["no time limit"]),
        (["run", ":Hopper-v5"], ["module:Id"]),
        (["run", ".x:Hopper-v5"], ["module:Id"]),
        (["run", "json:Hoper-v5"], ["json:Hoper-v5"]),
        (["train", TASK, "--learner.learning-rate", "nan"], ["learner.learning_rate is nan", "between 0 and 1"]),
        (["train", TASK, "--learner.weight-decay", "-1"], ["weight_decay"]),
        (["train", TASK, "--learner.log-std-min", "5"], ["log_std_min", "below log_std_max"]),
        (["train", TASK, "--threads", "99999999999"], ["threads", "1,024"]),
        (["train", TASK, "--model.bins", "1000000000"], ["bins"]),
        (["train", TASK, "--planning.samples", "99999999999"], ["samples"]),
        (["train", TASK, "--out", "x" * 300], ["name too long"]),
        (["demo", "--seed", "-1"], ["--seed"]),
        (["train", TASK, "--evaluation-seed", str(2**32)], ["evaluation_seed", "2,147,483,638"]),
        (["run", TASK, "--checkpoint", "nowhere"], ["nowhere"]),
        (["run", "dog-run"], ["no trained agent ships", "preplay train dog-run"]),
        (["run", TASK, "--planner", "random", "--video", "film.gif"], [".mp4"]),
        (["run", TASK, "--planner", "random", "--video", "nowhere/film.mp4"], ["nowhere"]),
        (["demo", "--episodes", "0"], ["--episodes"]),
        (["demo", "--tasks", "dog-run"], ["no trained agent ships"]),
        (["doctor", "--fast"], ["--fast"]),
        (["tasks", "walker"], ["walker"]),
    ],
)
def test_arguments(preplay, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(preplay(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


# The second is caught by types here, in the midst of the tests, and elsewhere by the setting's own check.
@pytest.mark.parametrize(
    ("arguments", "word"), [(["walker-wlak"], "walker-walk"), (["cheetah-run", "--bootstrap", "onw"], "'own'")]
)
def test_a_real_process_says_the_same(arguments, word):
    done = subprocess.run(
        [sys.executable, "-m", "preplay", "run", *arguments], check=False, capture_output=True, text=True
    )
    assert_one_sentence((done.returncode, done.stdout, done.stderr), word)


@pytest.mark.parametrize(
    "options", [["--samples", "0"], ["--iterations", "0"], ["--horizon", "0"], ["--device", "tpu"]]
)
def test_planning_options(preplay, checkpoint, options):
    for planner in ([], ["--planner", "random"]):
        result = preplay("run", TASK, "--checkpoint", checkpoint, *planner, *options)
        assert_one_sentence(result, options[0][2:])


def test_a_checkpoint_made_for_another_task(preplay, checkpoint):
    result = preplay("run", "walker-walk", "--checkpoint", checkpoint)
    assert_one_sentence(result, str(checkpoint), f"'{TASK}'", "'walker-walk'")


def test_a_checkpoint_whose_sizes_are_not_the_tasks(preplay, tmp_path):
    folder = save_agent(tmp_path / "agent", observation_dim=6)
    assert_one_sentence(preplay("run", TASK, "--checkpoint", folder), "(6,)", "(10,)")


def damage_weights(folder, keep):
    (weights,) = folder.glob("weights-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:keep])


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: edit(folder, schema=99),
        lambda folder: edit(folder, config={"model": {"latent_dimension": 3}}),
        lambda folder: edit(folder, action_repeat="two"),
        lambda folder: damage_weights(folder, 100),
        lambda folder: damage_weights(folder, 0),
        lambda folder: next(folder.glob("weights-*")).unlink(),
    ],
)
def test_a_damaged_checkpoint(preplay, checkpoint, damage):
    damage(checkpoint)
    assert_one_sentence(preplay("run", TASK, "--checkpoint", checkpoint, *QUICK), str(checkpoint))


class Strange(gymnasium.Env):
    """An environment whose observations are not what its space says, or not numbers."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, observation):
        self.observation = np.array(observation, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation, {}

    def step(self, action):
        return self.observation, 0.0, False, False, {}


gymnasium.register("NaNStart-v0", Strange, max_episode_steps=5, kwargs={"observation": [0, 0, np.nan, 0, 0]})
gymnasium.register("WrongShape-v0", Strange, max_episode_steps=5, kwargs={"observation": [[0] * 5] * 2})
gymnasium.register("TooShort-v0", Strange, max_episode_steps=5, kwargs={"observation": [0, 0, 0]})


@pytest.mark.parametrize(
    ("task", "words"), [("NaNStart-v0", ["NaN"]), ("WrongShape-v0", ["shape (10,)"]), ("TooShort-v0", ["shape (3,)"])]
)
def test_observations_that_make_no_sense(preplay, tmp_path, task, words):
    folder = save_agent(tmp_path / "agent", task, 5, 1)
    assert_one_sentence(preplay("run", task, "--checkpoint", folder, *QUICK), *words)
    result = preplay(
        "train", task, "--preset", "tiny", "--steps", "20", "--random-steps", "0", "--out", tmp_path / "run"
    )
    assert_one_sentence(result, *words)
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    assert_one_sentence(preplay("train", task, "--preset", "tiny", "--out", tmp_path / "mine"), *words)
    assert list((tmp_path / "mine").iterdir()) == []


BROKEN = {
    "syntax": ("1 +", "SyntaxError"),
    "fails": ("1 / 0", "ZeroDivisionError"),
    "needs": (
        "import gymnasium\nclass Needs(gymnasium.Env):\n    def __init__(self, robot): ...\n"
        "gymnasium.register('Needs-v0', Needs, max_episode_steps=5)",
        "robot",
    ),
}


@pytest.mark.parametrize("module", BROKEN)
def test_a_users_module_that_fails(preplay, tmp_path, monkeypatch, module):
    code, word = BROKEN[module]
    (tmp_path / f"{module}_of_mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    task = f"{module}_of_mine:Needs-v0"
    assert_one_sentence(preplay("run", task, "--planner", "random"), module, word)


def test_a_film_that_could_not_be_finished_does_not_replace_the_older_one(preplay, checkpoint, monkeypatch, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"older")
    real = Video._check

    def cut(self):  # as a disk that fills up at the last moment leaves it
        os.truncate(self._aside, 200)
        real(self)

    monkeypatch.setattr(Video, "_check", cut)
    result = preplay("run", TASK, "--checkpoint", checkpoint, "--episodes", 1, "--video", film, *QUICK)
    assert_one_sentence(result, "disk is full", "film.mp4")
    assert [file.name for file in tmp_path.glob("*.mp4")] == ["film.mp4"]
    assert film.read_bytes() == b"older"


def test_no_rendering_backend(preplay, no_backend, checkpoint, tmp_path):
    video = tmp_path / "film.mp4"
    result = preplay("run", TASK, "--checkpoint", checkpoint, "--video", video)
    assert_one_sentence(result, "OpenGL", "install")
    assert not video.exists()


def test_no_program_that_encodes_videos(preplay, monkeypatch, checkpoint, tmp_path):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    video = tmp_path / "film.mp4"
    assert_one_sentence(preplay("run", TASK, "--checkpoint", checkpoint, "--video", video), "ffmpeg")

    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    assert_one_sentence(preplay("run", TASK, "--checkpoint", checkpoint, "--video", video), "ffmpeg")
    assert not video.exists()


def test_an_action_repeat_of_nothing(preplay, checkpoint):
    assert_one_sentence(preplay("run", TASK, "--checkpoint", checkpoint, "--action-repeat", 0), "action_repeat is 0")


def test_a_search_in_the_simulator_without_a_planner(preplay, tmp_path):
    config = replace(preset("tiny"), device="cpu", planning=PlanningConfig(planner="policy"))
    Agent(config, 10, 2, AgentInfo(TASK, 2, 25, False), "cpu").save(tmp_path, half=True)
    options = ["--checkpoint", tmp_path, "--model", "simulator+value"]
    assert_one_sentence(preplay("run", TASK, *options), "without a planner", "--planner")


Usage = namedtuple("Usage", "total used free")


def test_no_disk_space_is_seen_before_the_work_begins(preplay, monkeypatch, tmp_path, checkpoint):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 1000))
    assert_one_sentence(preplay(*TRAIN, "--out", tmp_path / "run"), "free", "run")
    video = tmp_path / "film.mp4"
    assert_one_sentence(preplay("run", TASK, "--checkpoint", checkpoint, "--video", video), "free", "film.mp4")
    assert not (tmp_path / "run").exists()
    assert not video.exists()


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_leaves_no_half_checkpoint(preplay, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", full_disk)
    out = tmp_path / "run"
    quick = ["--steps", "40", "--random-steps", "40", "--evaluate-every", "0", "--final-episodes", "1"]
    assert_one_sentence(preplay(*TRAIN, *quick, "--json", "--out", out), "disk is full")
    assert not out.exists()


def test_a_disk_that_fills_up_leaves_the_older_checkpoint_whole(monkeypatch, checkpoint):
    from agent import Agent

    agent = Agent.load(checkpoint)
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            agent.save(checkpoint)
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before


def test_a_run_that_was_killed_as_it_began_can_be_begun_again(preplay, tmp_path):
    """And one that had got anywhere can't."""
    out = tmp_path / "run"
    for name in ("resume", "tensorboard"):
        (out / name).mkdir(parents=True)
    (out / "metrics.jsonl").touch()
    with Experience(out / "experience") as experience:
        experience.begin(np.zeros(10), task=TASK, seed=0)
        check_folder(out)
        experience.add(np.zeros(2), 0.0, np.zeros(10), False, False)
    assert_one_sentence(preplay(*TRAIN, "--out", out), "already holds something")
    shutil.rmtree(out / "experience")
    check_folder(out)
    (out / "metrics.jsonl").write_text("{}")
    assert_one_sentence(preplay(*TRAIN, "--out", out), "already holds something")


def test_a_folder_that_is_not_empty_is_not_written_over(preplay, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("data")
    assert_one_sentence(preplay(*TRAIN, "--out", tmp_path / "run"), "already holds", "--out")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["precious"]
    (tmp_path / "file").write_text("data")
    assert_one_sentence(preplay(*TRAIN, "--out", tmp_path / "file"), "file")
    assert_one_sentence(preplay(*TRAIN, "--out", tmp_path / "file" / "run"), "file")
    assert_one_sentence(preplay("demo", "--out", tmp_path / "file"), "file")
    assert (tmp_path / "file").read_text() == "data"
