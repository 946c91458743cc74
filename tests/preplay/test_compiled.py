"""`preplay train --compile`."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from agent import ConfigError, preset, resume
from agent.compiled import CompiledEngine
from benchmarks.kills import differences
from preplay.card import read_metrics

# At the default temperature of imitation an error of rounding in values below 1 counts a thousandfold, and after two
# hundred updates the pole falls two decisions sooner. With less of it, too, where chance will have it (seed 0): one
# decision's difference in the last episode is more than rounding.
SETTINGS = ["InvertedPendulum-v5", "--preset", "tiny",
           "--steps", "240", "--random-steps", "40", "--evaluate-every", "0", "--final-episodes", "1",
           "--planning.samples", "8", "--planning.iterations", "1", "--learner.batch-size", "16",
           "--updates-per-decision", "1", "--learner.horizon", "1", "--planning.horizon", "1",
           "--learner.imitation-temperature", "0.01", "--save-every", "0", "--seed", "1"]  # fmt: skip

# So that a run this short has losses in its log.
COMMAND = "from agent.lessons import Lessons; Lessons.LOG_EVERY = 20; from preplay.cli import main; main()"


@pytest.fixture
def train(tmp_path):
    """A function that trains in a process of its own, without the checks of shapes, which can't be compiled."""
    # What was compiled before must not lend a hand.
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}

    def run(*options):
        command = [sys.executable, "-c", COMMAND, "train", *options]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return run


def finish(process):
    _, err = process.communicate(timeout=600)
    assert "warn" not in err.lower()
    return process.returncode, err


@pytest.mark.timeout(900)  # the compiler takes its time where others work, too
def test_it_trains_the_same_to_rounding_and_goes_on_to_the_last_bit(train, tmp_path):
    plain, compiled, stopped = (tmp_path / name for name in ("plain", "compiled", "stopped"))
    assert finish(train(*SETTINGS, "--out", plain))[0] == 0
    assert finish(train(*SETTINGS, "--out", compiled, "--compile"))[0] == 0
    found, expected = (
        [record for record in read_metrics(folder) if record["kind"] in ("update", "episode", "final")]
        for folder in (compiled, plain)
    )
    assert [record["kind"] for record in found] == [record["kind"] for record in expected]
    assert [record["updates"] for record in found if record["kind"] == "update"] == [*range(20, 241, 20)]
    for one, other in zip(found, expected, strict=True):
        for key in {
            "return",
            "mean_return",
            "value_loss",
            "policy_loss",
            "reward_loss",
            "target_value",
            "step",
        } & one.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-2), (key, one, other)

    process = train(*SETTINGS, "--out", stopped, "--compile")
    end = time.monotonic() + 300
    while time.monotonic() < end and not (resume.exists(stopped) and resume.read(stopped).moment.counts.updates > 20):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    code, err = finish(process)
    assert code == 128 + signal.SIGTERM, err
    assert resume.read(stopped).moment.step < 240
    assert finish(train("--resume", stopped))[0] == 0
    assert differences(compiled, stopped) == []


def test_where_nothing_can_be_compiled_that_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-compiler-of-that-name",))
    with pytest.raises(ConfigError, match="C\\+\\+ compiler"):
        CompiledEngine(preset("tiny").planning)
    torch.compiler.reset()
