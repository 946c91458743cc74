"""`preplay train --resume`, `--experience` and `--offline`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import Agent, Experience, describe, resume
from benchmarks.kills import differences
from preplay.card import read_metrics
from tests.preplay.test_wrong_input import assert_one_sentence

QUICK = ["--preset", "tiny", "--steps", "240", "--random-steps", "120", "--evaluate-every", "150",
         "--evaluation-episodes", "1", "--final-episodes", "2", "--planning.samples", "16"]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished run."""
    from preplay.cli import main

    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    main(["train", "Reacher-v5", *QUICK, "--out", str(folder)])
    return folder


def start(folder, *arguments):
    """A training process, and waits until it can be resumed."""
    script = Path(sys.executable).with_name("preplay")
    process = subprocess.Popen([script, "train", *arguments], cwd=folder, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(folder.glob("**/state.json")) and time.monotonic() < end:
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["int", "term", "kill"]
)
def test_a_run_that_was_stopped_comes_out_as_if_nothing_had_happened(preplay, tmp_path, undisturbed, number, code):
    process = start(tmp_path, "Reacher-v5", *QUICK, "--save-every", "0.1", "--out", "run")
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    if number != signal.SIGKILL:
        assert err.splitlines()[-1].startswith("preplay: stopped at step ")
        assert err.endswith("go on with: preplay train --resume run\n")
    assert not resume.read(tmp_path / "run").moment.finished
    told, out, err = preplay("train", "--resume", tmp_path / "run")
    assert told == 0, err
    assert "policy" in out
    assert differences(undisturbed, tmp_path / "run") == []
    (sitting,) = describe(tmp_path / "run")["training"]["resumed"]
    assert sitting["step"] <= 240
    assert "resumed" in (tmp_path / "run" / "CARD.md").read_text()


def test_a_finished_run_says_so_and_goes_on_with_more_steps(preplay, tmp_path, undisturbed):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    code, out, _ = preplay("train", "--resume", folder)
    assert code == 0
    assert "finished" in out
    code, out, _ = preplay("train", "--resume", folder, "--json")
    assert json.loads(out)["planner"]["returns"] == pytest.approx(
        [x for record in read_metrics(folder) if record["kind"] == "final" for x in record["returns"]][:2]
    )
    code, _, err = preplay("train", "--resume", folder, "--steps", "300")
    assert code == 0, err
    assert describe(folder)["training"]["steps"] == 300
    assert [record["step"] for record in read_metrics(folder) if record["kind"] == "final"] == [300, 300]
    with Experience(folder / "experience", read_only=True) as experience:
        assert len(experience) == 300


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "100"], ["240", "--steps"]),
        (["--learner.learning-rate", "0.1"], ["--learner"]),
        (["--seed", "3"], ["--seed"]),
        (["--preset", "base"], ["--preset"]),
        (["--out", "elsewhere"], ["--out"]),
        (["--action-repeat", "2"], ["--action-repeat"]),
        (["--experience", "runs"], ["--experience"]),
    ],
)
def test_a_resumed_run_keeps_its_settings(preplay, undisturbed, options, words):
    assert_one_sentence(preplay("train", "--resume", undisturbed, *options), *words)


def test_resuming_what_is_no_run(preplay, tmp_path, undisturbed):
    assert_one_sentence(preplay("train", "--resume", tmp_path / "nothing"), "no run folder")
    assert_one_sentence(preplay("train", "--resume", tmp_path), "no training run")
    assert_one_sentence(preplay("train", "walker-walk", "--resume", undisturbed), "Reacher-v5", "walker-walk")
    assert_one_sentence(preplay("train", "Reacher-v5", "--out", undisturbed), "--resume")


def test_a_module_that_a_run_names_is_only_imported_when_the_user_names_it(preplay, tmp_path):
    options = ["--preset", "tiny", "--steps", "60", "--random-steps", "40", "--final-episodes", "1"]
    folder = tmp_path / "run"
    preplay("train", "tests.envs.own:Ending-v0", *options, "--out", folder)
    again = ["--resume", folder, "--steps", "80"]
    assert_one_sentence(preplay("train", *again), "tests.envs.own:Ending-v0", "trust", "--resume")
    code, _, err = preplay("train", "tests.envs.own:Ending-v0", *again)
    assert code == 0, err
    assert Agent.load(folder).info.training["steps"] == 80


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="makes a small disk of its own")
def test_a_disk_that_is_really_full(preplay, tmp_path, undisturbed):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        process = start(disk, "Reacher-v5", *QUICK, "--save-every", "0", "--out", "run")
        with open(disk / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"0" * 4096):
                    pass
            except OSError:
                pass
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert "Traceback" not in err
        assert "the disk is full; nothing is lost: make room and go on with: preplay train" in err
        (disk / "filler").unlink()
        code, _, err = preplay("train", "--resume", disk / "run")
        assert code == 0, err
        assert differences(undisturbed, disk / "run") == []
    finally:
        subprocess.run(["umount", disk], check=False)


def test_beginning_with_the_experience_of_another_run(preplay, tmp_path, undisturbed):
    code, _, err = preplay("train", "Reacher-v5", *QUICK, "--experience", undisturbed, "--out", tmp_path / "run")
    assert code == 0, err
    assert describe(tmp_path / "run")["training"]["given"] == 240
    with Experience(tmp_path / "run" / "experience", read_only=True) as experience:
        assert len(experience) == 480
        own = [episode for episode in experience.episodes if episode.first >= 240]
        assert all("random" not in episode.actors for episode in own)  # it knows enough to begin with
    updates = [record for record in read_metrics(tmp_path / "run") if record["kind"] == "update"]
    assert updates[0]["updates"] == 250
    assert updates[0]["step"] < 20  # most were made before the first decision


def test_learning_without_acting(preplay, tmp_path, undisturbed):
    store = undisturbed / "experience"
    code, _, err = preplay("train", "Reacher-v5", *QUICK, "--experience", store, "--offline", "--out", tmp_path / "run")
    assert code == 0, err
    with Experience(tmp_path / "run" / "experience", read_only=True) as experience:
        assert len(experience) == 240
    assert not [record for record in read_metrics(tmp_path / "run") if record["kind"] == "episode"]
    assert Agent.load(tmp_path / "run").info.training["steps"] == 240


def test_experience_that_does_not_fit(preplay, tmp_path, undisturbed):
    out = ["--out", tmp_path / "run"]
    assert_one_sentence(preplay("train", "Reacher-v5", "--offline", *out), "--experience")
    assert_one_sentence(preplay("train", "Reacher-v5", "--experience", tmp_path / "none", *out), "none")
    assert_one_sentence(preplay("train", "walker-walk", "--experience", undisturbed, *out), "Reacher-v5", "walker-walk")
    assert not (tmp_path / "run").exists()
