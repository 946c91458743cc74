"""`preplay train --tasks A,B --seeds N`."""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import Agent, describe, resume
from preplay.card import read_metrics
from preplay.many import _why
from preplay.progress import RunsDisplay
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
    assert "- Trained together with 3 others\n" in (folder / NAMES[0] / "CARD.md").read_text()
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
        (["--tasks", "walker-run", "--offline"], ["--offline"]),
        (["--tasks", "walker-run", "--experience", "runs"], ["--experience"]),
        (["--tasks", "walker-run", "--overlap", "8"], ["--overlap"]),
        (["--tasks", "walker-run", "--compile"], ["--compile"]),
        (["--tasks", "walker-run", "--preset", "smal"], ["'smal'"]),
        (["--seeds", "2"], ["TASK"]),
    ],
)
def test_wrong_input(preplay, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(preplay("train", *arguments), *words)
    assert not any(tmp_path.iterdir())


def test_runs_that_were_begun_alone_go_on_together(preplay, tmp_path):
    """Also where they were left to choose their device."""
    options = [PENDULUM, *QUICK, "--out"]
    code, _, err = preplay("train", *options, tmp_path / f"{PENDULUM}-seed0")
    assert code == 0, err
    code, out, err = preplay("train", *options, tmp_path, "--seeds", 2, "--steps", 50, "--json")
    assert (code, err) == (0, "")
    assert [row["steps"] for row in json.loads(out)["runs"]] == [50, 50]


def test_a_disk_that_is_full_is_told_as_of_one_run():
    error = OSError(errno.ENOSPC, "No space left on device")
    assert _why(error) == "the disk is full; nothing saved is lost: make room, and the same command goes on"


def test_a_folder_that_holds_something_else(preplay, tmp_path, done):
    (tmp_path / NAMES[1]).mkdir()
    (tmp_path / NAMES[1] / "notes.txt").write_text("mine")
    options = ["--seeds", 2, "--seed", 3, "--out", tmp_path]
    assert_one_sentence(preplay("train", *TASKS, *options), NAMES[1], "already holds something")
    assert_one_sentence(preplay("train", PENDULUM, "--resume", done[0] / NAMES[0], "--seeds", 2), "--resume")


def test_a_run_that_fails_is_told_and_the_others_go_on(preplay, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOSE", "yes")
    tasks = ["--tasks", f"{OWN},tests.envs.own:Loose-v0", *QUICK, "--out", tmp_path]
    code, out, err = preplay("train", *tasks, "--json")
    assert code == 1
    rows = json.loads(out)["runs"]
    assert ["planner" in row for row in rows] == [True, False]
    assert rows[1]["error"] == "the wheel came off"
    assert err == "preplay: tests.envs.own-Loose-v0-seed0: the wheel came off\n"
    monkeypatch.delenv("LOOSE")
    code, out, err = preplay("train", *tasks)
    assert code == 0, err
    assert out.count("planner") == 2


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_runs_that_were_stopped_go_on(tmp_path, number, to_all):
    # As a user would, and without the checks of shapes, which take longer than the training.
    command = [Path(sys.executable).with_name("preplay"), "train", PENDULUM, "--seeds", "2", *QUICK]
    command += ["--steps", "60", "--random-steps", "54", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("**/state.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    # A terminal, and some programs, send it to all processes at once.
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
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
        assert f"at step {sitting['step']} (on {sitting['machine']})" in (folder / "CARD.md").read_text()


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
