"""Which runs are started, resumed, skipped and taken in; with a trainer that only pretends."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import AgentInfo, resume
from agent.progress import Counts
from agent.resume import Moment
from benchmarks.study import train, variants
from benchmarks.study.runs import Job
from tests.benchmarks.folders import save_curve, save_run
from tests.preplay.test_wrong_input import assert_one_sentence

FULL = variants.find("full")
# Writes its arguments down, then does what the task's name asks for.
TRAINER = """
import os, pathlib, sys, time
arguments = sys.argv[1:]
print("trains", arguments[0], "with", os.environ["OMP_NUM_THREADS"], flush=True)
with open("calls.txt", "a") as calls: calls.write(" ".join(arguments) + chr(10))
if arguments[0] == "hopper-hop": sys.exit("preplay: no")
if arguments[0] == "walker-run":
    time.sleep(60)
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Runs the pretending trainer from within a folder of its own; what it was asked for."""
    monkeypatch.chdir(tmp_path)
    Path("trainer.py").write_text(TRAINER)
    monkeypatch.setattr(train, "PROGRAM", (sys.executable, "trainer.py"))
    monkeypatch.setattr(train, "_POLL", 0.02)
    return lambda: Path("calls.txt").read_text().splitlines() if Path("calls.txt").exists() else []


def save_state(folder, steps=50_000, finished=True, variant="full", task="cheetah-run", action_repeat=2):
    """What a run is resumed from, without tensors."""
    config = replace(variants.configuration(variants.find(variant)), steps=steps)
    moment = Moment(steps, Counts(), None, None, {}, None, 0, 0, 0, {}, 1.0, 0.0, finished, "cpu")
    resume.write(folder, config, AgentInfo(task, action_repeat, 500, False, (), {}), moment, {})


def job(steps=100_000, task="cheetah-run"):
    return Job(FULL, task, 0, steps, Path("runs/study"))


def test_a_run_that_is_not_there_starts(trainer):
    text = " ".join(job().arguments())
    assert text == (
        "cheetah-run --preset small --seed 0 --steps 100000 --evaluate-every 10000 --evaluation-episodes 3 "
        "--final-episodes 10 --out runs/study/full/cheetah-run-seed0"
    )


def test_a_run_can_be_compiled(study, trainer):
    study("train", "--tasks", "hopper-hop", "--compile")
    assert ["--compile" in line.split() for line in trainer()] == [True]


@pytest.mark.parametrize(
    ("steps", "finished", "wanted", "expected"),
    [
        (50_000, True, 100_000, "cheetah-run --resume runs/study/full/cheetah-run-seed0 --steps 100000"),
        (50_000, False, 100_000, "cheetah-run --resume runs/study/full/cheetah-run-seed0 --steps 100000"),
        (100_000, False, 100_000, "cheetah-run --resume runs/study/full/cheetah-run-seed0"),
        (100_000, False, 50_000, "cheetah-run --resume runs/study/full/cheetah-run-seed0"),
        (100_000, True, 100_000, None),
        (100_000, True, 50_000, None),
    ],
)
def test_a_run_that_is_there_goes_on(trainer, steps, finished, wanted, expected):
    save_state(job().folder, steps, finished)
    arguments = job(wanted).arguments()
    assert (arguments and " ".join(arguments)) == expected


def test_a_run_of_other_settings_is_not_gone_on_with(study, trainer):
    save_state(job().folder, variant="one-update", task="acrobot-swingup")
    code, out, _ = study("train", "--tasks", "cheetah-run")
    assert code == 1
    assert "trains acrobot-swingup with seed 0, not cheetah-run" in out
    assert trainer() == []


def test_a_run_with_another_action_repeat_is_not_gone_on_with(study, trainer):
    save_state(job().folder, action_repeat=4)
    code, out, _ = study("train", "--tasks", "cheetah-run")
    assert (code, trainer()) == (1, [])
    assert "has an action repeat of 4, not 2" in out


def test_what_was_taken_in_is_skipped(study, trainer):
    save_curve(Path("benchmarks/results/study"), "cheetah-run", 1)
    code, out, err = study("train", "--tasks", "cheetah-run")
    assert (code, err, trainer()) == (0, "", [])
    assert "1 runs, 1 of them done before" in out


def test_what_is_finished_is_taken_in(study, trainer):
    save_run(job().folder, task="cheetah-run")
    save_state(job().folder, 30_000)
    code, out, _ = study("train", "--tasks", "cheetah-run", "--steps", "30000")
    assert (code, trainer()) == (0, [])
    assert "return 90 at 30,000 steps, policy prior 60" in out
    assert Path("benchmarks/results/study/full/cheetah-run-seed0-30000.jsonl").exists()


def test_a_failed_run_leaves_the_others_alone(study, trainer):
    save_run(job().folder, task="cheetah-run")  # what the trainer would have made
    code, out, _ = study("train", "--tasks", "hopper-hop", "cheetah-run", "--steps", "30000", "--workers", "1")
    assert code == 1
    assert "hopper-hop seed 0: failed, exit code 1; see runs/study/full/hopper-hop-seed0.log" in out
    assert "cheetah-run seed 0: return 90" in out
    log = Path("runs/study/full/hopper-hop-seed0.log").read_text()
    assert log == "trains hopper-hop with 1\npreplay: no\n"


def test_seeds_come_one_after_another(study, trainer):
    study("train", "--tasks", "hopper-hop", "--seeds", "0", "1", "--variants", "full", "one-update", "--workers", "1")
    asked = [" ".join(line.split()[1:-10]) for line in trainer()]
    assert [("--updates-per-decision" in line, line.split()[-1]) for line in asked] == [
        (False, "0"), (True, "0"), (False, "1"), (True, "1")
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_what_runs_and_starts_nothing_more(study, trainer, number):
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, which the study respects
        signal.signal(number, lambda *_: None)

    def stop():
        end = time.monotonic() + 20
        while not trainer() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    began = time.monotonic()
    code, out, err = study("train", "--tasks", "walker-run", "cheetah-run", "--workers", "1")
    thread.join()
    assert code == 128 + number
    assert time.monotonic() - began < 30
    assert "walker-run seed 0: stopped" in out
    assert "the same command goes on" in err
    assert len(trainer()) == 1


def test_a_signal_that_is_ignored_stays_ignored():
    """As after nohup, where the terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with train._signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tran"], ["'tran'", "'train'"]),
        (["train", "--tasks", "walker-rum"], ["walker-run"]),
        (["train", "--variants", "ful"], ["'ful'", "'full'"]),
        (["train", "--workers", "0"], ["--workers", "at least 1"]),
        (["train", "--steps", "0"], ["--steps", "at least 1"]),
        (["train", "--seeds", "-1"], ["--seeds"]),
        (["train", "--seeds"], ["nothing to train"]),
        (["train", "--stpes", "1"], ["--stpes", "--steps", "python -m benchmarks.study train --help"]),
        (["train", "--variants", "residual-encoder"], ["'residual-encoder'", "44122b8"]),
        (["add"], ["run folder"]),
        (["add", "nowhere"], ["nowhere"]),
        (["add", "nowhere", "--variant", "ful"], ["'full'"]),
        (["report", "--results", "nowhere"], ["nowhere", "benchmarks.study train"]),
        (["report", "--steps", "0"], ["--steps", "at least 1"]),
    ],
)
def test_a_mistake_gets_one_sentence(study, trainer, arguments, words):
    assert_one_sentence(study(*arguments), *words)
    assert trainer() == []


def test_the_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.study"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "report" in done.stdout
