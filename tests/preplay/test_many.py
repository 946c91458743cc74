"""`preplay train --tasks A,B --seeds N`, and worlds in worker processes."""

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import envs
from agent import Agent, Trainer, describe, resume
from preplay.card import read_metrics
from preplay.errors import UsageError
from preplay.progress import RunsDisplay
from preplay.remote import Worlds
from tests.preplay.test_wrong_input import assert_one_sentence

OWN = "tests.envs.own:Ending-v0"
QUICK = ["--preset", "tiny", "--steps", "48", "--random-steps", "40", "--evaluate-every", "0", "--final-episodes", "1",
         "--planning.samples", "8", "--planning.iterations", "1", "--learner.batch-size", "16",
         "--updates-per-decision", "1"]  # fmt: skip
PENDULUM = "InvertedPendulum-v5"
TASKS = ["--tasks", f"{PENDULUM},{OWN}", *QUICK]
NAMES = [f"{task}-seed{seed}" for task in (PENDULUM, "tests.envs.own-Ending-v0") for seed in (3, 4)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Four runs that the tests below look at: their folder, and what was printed."""
    from preplay.cli import main

    folder = tmp_path_factory.mktemp("many") / "runs"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        main(["train", *TASKS, "--seeds", "2", "--seed", "3", "--out", str(folder)])
    return folder, out.getvalue(), err.getvalue()


def test_each_is_an_ordinary_run(done):
    folder, out, err = done
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for name in NAMES:
        assert {"config.json", "metrics.jsonl", "CARD.md", "experience"} <= {x.name for x in (folder / name).iterdir()}
        assert resume.read(folder / name).moment.finished
        assert f"preplay: {name}: finished" in err
    assert "- Trained in one process with 3 others\n" in (folder / NAMES[0] / "CARD.md").read_text()
    assert [line.split()[0] for line in out.splitlines()[:4]] == NAMES
    assert "preplay run InvertedPendulum-v5 --checkpoint" in out
    assert Agent.load(folder / NAMES[3]).info.can_terminate
    assert [Agent.load(folder / name).config.seed for name in NAMES] == [3, 4, 3, 4]


def test_it_comes_out_as_alone(done, preplay, tmp_path):
    code, _, err = preplay("train", PENDULUM, *QUICK, "--seed", 4, "--out", tmp_path / "alone")
    assert code == 0, err
    found, expected = (
        [record for record in read_metrics(folder) if record["kind"] in ("episode", "final")]
        for folder in (done[0] / NAMES[1], tmp_path / "alone")
    )
    assert [record["kind"] for record in found] == [record["kind"] for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["step"] == other["step"]
        key = "return" if one["kind"] == "episode" else "mean_return"
        assert one[key] == pytest.approx(other[key], rel=1e-2)


def test_the_same_command_says_what_came_out_and_goes_on_with_more_steps(done, preplay, tmp_path):
    folder = shutil.copytree(done[0], tmp_path / "runs")
    options = ["train", *TASKS, "--seeds", 2, "--seed", 3, "--out", folder, "--json"]
    code, out, err = preplay(*options)
    assert (code, err) == (0, "")
    rows = json.loads(out)["runs"]
    assert [Path(row["folder"]).name for row in rows] == NAMES
    assert [(row["task"], row["seed"], row["steps"]) for row in rows][1:3] == [
        (PENDULUM, 4, 48),
        (OWN, 3, 48),
    ]
    assert all(len(row["planner"]["returns"]) == len(row["policy"]["returns"]) == 1 for row in rows)
    assert_one_sentence(preplay(*options[:-1], "--learner.rho", 0.4), NAMES[0], "--learner", "--out")
    assert_one_sentence(preplay(*options[:-1], "--steps", 47), "--steps")
    assert_one_sentence(preplay(*options[:-1], "--action-repeat", 3), "--action-repeat")
    shutil.rmtree(folder / NAMES[2])  # one that is yet to begin, beside three that go on
    code, out, err = preplay(*options, "--steps", 50)
    assert (code, err) == (0, "")
    assert [row["steps"] for row in json.loads(out)["runs"]] == [50] * 4
    for name in NAMES:
        training = describe(folder / name)["training"]
        assert training["steps"] == 50
        assert len(training.get("resumed", [])) == (name != NAMES[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["walker-walk", "--tasks", "walker-run"], ["--tasks", "walker-walk"]),
        (["--tasks", "walker-run,walker-walk,walker_run"], ["walker-run", "twice"]),
        (["--tasks", "walker-run,wlaker-walk"], ["'wlaker-walk'", "walker-walk"]),
        (["--tasks", "walker-run,,walker-walk"], ["--tasks", "empty"]),
        (["--tasks", ""], ["--tasks", "empty"]),
        (["--tasks", "walker-run,lqr-lqr-6-2"], ["no time limit"]),
        (["--tasks", "walker-run,CartPole-v1"], ["Discrete(2)", "continuous"]),
        (["walker-run", "--seeds", "0"], ["--seeds", "at least 1"]),
        (["walker-run", "--seeds", "2", "--workers", "0"], ["--workers", "at least 1"]),
        (["walker-run", "--workers", "2"], ["--workers", "--seeds"]),
        (["--tasks", "walker-run", "--offline"], ["--offline"]),
        (["--tasks", "walker-run", "--experience", "runs"], ["--experience"]),
        (["--tasks", "walker-run", "--overlap", "8"], ["--overlap"]),
        (["--tasks", "walker-run", "--preset", "smal"], ["'smal'"]),
        (["--seeds", "2"], ["TASK"]),
    ],
)
def test_wrong_input(preplay, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(preplay("train", *arguments), *words)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_something_else(preplay, tmp_path, done):
    (tmp_path / NAMES[1]).mkdir()
    (tmp_path / NAMES[1] / "notes.txt").write_text("mine")
    options = ["--seeds", 2, "--seed", 3, "--out", tmp_path]
    assert_one_sentence(preplay("train", *TASKS, *options), NAMES[1], "already holds something")
    assert_one_sentence(preplay("train", PENDULUM, "--resume", done[0] / NAMES[0], "--seeds", 2), "--resume")


def test_a_run_that_fails_is_told_and_the_others_go_on(preplay, tmp_path, monkeypatch):
    real = Trainer._collect

    def collect(self, random):
        if self.config.seed == 1 and self.progress.step == 30:
            raise envs.TaskError("the wheel came off")
        return real(self, random)

    monkeypatch.setattr(Trainer, "_collect", collect)
    code, out, err = preplay("train", OWN, "--seeds", 3, *QUICK, "--out", tmp_path, "--json", "--workers", 1)
    assert code == 1
    rows = json.loads(out)["runs"]
    assert ["planner" in row for row in rows] == [True, False, True]
    assert rows[1]["error"] == "the wheel came off"
    assert err == "preplay: tests.envs.own-Ending-v0-seed1: the wheel came off\n"
    monkeypatch.undo()
    code, out, err = preplay("train", OWN, "--seeds", 3, *QUICK, "--out", tmp_path)
    assert code == 0, err
    assert out.count("planner") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_runs_that_were_stopped_go_on(tmp_path, number):
    # As a user would, and without the checks of shapes, which take longer than the training.
    command = [Path(sys.executable).with_name("preplay"), "train", PENDULUM, "--seeds", "2", *QUICK]
    command += ["--steps", "60", "--random-steps", "54", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("**/state.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert err.endswith("preplay: stopped; the same command goes on\n")
    assert "Traceback" not in err
    folders = [tmp_path / f"{PENDULUM}-seed{seed}" for seed in range(2)]
    assert not any(resume.read(folder).moment.finished for folder in folders)
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    for folder in folders:
        assert resume.read(folder).moment.finished
        (sitting,) = describe(folder)["training"]["resumed"]
        assert sitting["step"] < 60


def test_a_display_of_many(capsys, monkeypatch):
    from agent import Progress

    monkeypatch.setattr("preplay.progress.TrainingDisplay.LINE_EVERY", 0)
    with RunsDisplay({"a": 100, "b": 300}) as display:
        display.update(0, Progress(50, 100, steps_per_second=10.0, seconds_left=5.0))
        display.end(0, "finished")
        display.update(1, Progress(30, 300, steps_per_second=20.0, seconds_left=61.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 runs 50/400 10 steps/s · 0:00:05 left"
    assert lines[1] == "preplay: a: finished"
    assert lines[2] == "2 runs 80/400 20 steps/s · 0:01:01 left"


# Worlds in worker processes.


def played(env, seed):
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(12):
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
        assert info.get("unstable", False) is False
        seen.append(np.append(observation, [reward, terminated, truncated]))
        if terminated or truncated:
            break
    return np.concatenate(seen)


def fail(env):
    raise KeyError("the wheel came off", 3)


class Unsendable(Exception):
    """An error that can't be made again from its arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_unsendably(env):
    raise Unsendable("this", "that")


def test_a_remote_environment_is_as_a_local_one():
    tasks = [PENDULUM, OWN, "pendulum-swingup"]
    with Worlds([(partial(envs.make, task, action_repeat=2),) * 2 for task in tasks], workers=2) as worlds:
        for task, (env, other) in zip(tasks, worlds.envs, strict=True):
            local = envs.make(task, action_repeat=2)
            assert env.observation_space == local.observation_space
            assert env.action_space == local.action_space
            assert env.get_wrapper_attr("task") == local.get_wrapper_attr("task")
            assert env.apply(envs.winding_angles) == envs.winding_angles(local)
            for seed in (1, 2):
                assert np.array_equal(played(env, seed), played(local, seed))
            other.close()
        env = worlds.envs[0][0]
        with pytest.raises(ValueError, match="the action has shape"):
            env.step(np.zeros(7))
        with pytest.raises(KeyError, match="the wheel came off"):
            env.apply(fail)
        with pytest.raises(RuntimeError, match="Unsendable: this and that"):
            env.apply(fail_unsendably)
        with pytest.raises(AttributeError):
            env.get_wrapper_attr("wheel")
        env.reset(seed=0)  # and it goes on
    assert not multiprocessing.active_children()


def test_a_world_that_cannot_be_made_leaves_no_process():
    with pytest.raises(envs.TaskError, match="Discrete"):
        Worlds([(partial(envs.make, OWN),), (partial(envs.make, "CartPole-v1"),)], workers=2)
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_told_in_one_sentence():
    with Worlds([(partial(envs.make, OWN),), (partial(envs.make, OWN),)], workers=2) as worlds:
        (one,), (other,) = worlds.envs
        for env in (one, other):
            env.reset(seed=0)
        os.kill(one.apply(process_of), signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(UsageError, match=r"a process that steps worlds was killed.*--workers"):
                one.step(np.zeros(2))
        other.step(np.zeros(2))
        one.close()
    assert not multiprocessing.active_children()


def process_of(env):
    return os.getpid()
