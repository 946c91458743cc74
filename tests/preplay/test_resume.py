"""`preplay train --resume`, `--experience` and `--offline`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import envs
from agent import Agent, Experience, Trainer, TrainingStopped, describe, resume
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


@pytest.mark.parametrize("options", [[], ["--device", "cpu"]])
def test_a_run_goes_on_on_the_device_that_was_chosen(preplay, undisturbed, tmp_path, monkeypatch, options):
    """Also where there is a GPU by now; and it may be named."""
    shutil.copytree(undisturbed, tmp_path / "run")
    assert resume.read(tmp_path / "run").config.device == "auto"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    code, _, err = preplay("train", "--resume", tmp_path / "run", "--steps", "250", *options)
    assert code == 0, err
    assert resume.read(tmp_path / "run").moment.device == "cpu"


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


def test_a_longer_run_that_is_stopped_at_once_goes_on(preplay, tmp_path, undisturbed, monkeypatch):
    """The final results are gone then, and the run knows that it has more to do."""
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_begin", lambda self, *_: (_ for _ in ()).throw(TrainingStopped))
        with pytest.raises(TrainingStopped):
            preplay_train(folder, 300)
    code, _, err = preplay("train", "--resume", folder)
    assert code == 0, err
    assert describe(folder)["training"]["steps"] == 300
    assert len([record for record in read_metrics(folder) if record["kind"] == "final"]) == 2


def preplay_train(folder, steps):
    """What `--resume --steps` does, without the command around it."""
    state = resume.read(folder)
    env, evaluation_env = (envs.make(state.info.task) for _ in "ab")
    Trainer(env, evaluation_env, replace(state.config, steps=steps), state.info, folder).resume()


def test_what_is_copied_into_a_run_would_be_lost(preplay, undisturbed, tmp_path, monkeypatch):
    """By whichever name its store is called."""
    other = shutil.copytree(undisturbed / "experience", tmp_path / "other")
    assert_one_sentence(preplay("experience", undisturbed, "--merge", other), "belongs to a training run")
    (tmp_path / "link").symlink_to(undisturbed / "experience")
    assert_one_sentence(preplay("experience", tmp_path / "link", "--merge", other), "belongs to a training run")
    monkeypatch.chdir(undisturbed / "experience")
    assert_one_sentence(preplay("experience", ".", "--merge", other), "belongs to a training run")
    assert_one_sentence(preplay("experience", undisturbed, "--merge"), "--merge names no folder")
    assert_one_sentence(preplay("train", "Reacher-v5", "--experience", "--out", tmp_path / "run"), "--experience")


def test_another_process_that_began_in_the_same_folder_keeps_its_files(preplay, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with Experience(out / "experience") as theirs:
        monkeypatch.setattr("preplay.train.check_folder", lambda *_: None)  # both saw an empty folder
        assert_one_sentence(preplay("train", "Reacher-v5", *QUICK, "--out", out), "another process")
        theirs.begin([0.0], task="theirs")
        theirs.add([0.0], 1.0, [0.0], False, True)
    with Experience(out / "experience", read_only=True) as theirs:
        assert len(theirs) == 1


def test_experience_of_other_sizes(preplay, tmp_path):
    for sizes in ((3, 2), (10, 3)):
        with Experience(tmp_path / str(sizes[0] * sizes[1])) as experience:
            experience.begin([0.0] * sizes[0], task="Reacher-v5", seed=0)
            experience.add([0.0] * sizes[1], 0.0, [0.0] * sizes[0], False, True)
        result = preplay("train", "Reacher-v5", "--experience", experience.folder, "--out", tmp_path / "run")
        assert_one_sentence(result, f"{sizes[0]} and {sizes[1]} elements", "10 and 2")
        assert not (tmp_path / "run").exists()


def test_a_finished_run_whose_log_or_card_is_lost(preplay, tmp_path, undisturbed):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    card = (folder / "CARD.md").read_text()
    (folder / "CARD.md").unlink()
    with open(folder / "metrics.jsonl", "ab") as log:
        log.write(b'3\n"text"\n\xff\xfe{\n')
    assert preplay("train", "--resume", folder)[0] == 0
    assert (folder / "CARD.md").read_text() == card
    (folder / "metrics.jsonl").unlink()
    assert_one_sentence(preplay("train", "--resume", folder), "metrics.jsonl")


def test_damage_is_told_to_whoever_learns_from_it(preplay, tmp_path, undisturbed):
    store = shutil.copytree(undisturbed / "experience", tmp_path / "store")
    segment = store / "000001.segment"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    code, out, _ = preplay("experience", store)
    assert (code, "damage: left out" in out) == (0, True)
    code, _, err = preplay("experience", tmp_path / "all", "--merge", store)
    assert (code, "damage in" in err) == (0, True)
