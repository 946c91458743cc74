"""Runs that were stopped, killed, or out of disk go on as if nothing had happened."""

import errno
import json
import os
import random
import shutil
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from agent import Agent, AgentInfo, CheckpointError, ConfigError, Experience, Trainer, TrainingStopped, preset, resume
from agent.files import content_sha256
from agent.lessons import Lessons
from benchmarks.kills import Run, differences, kill
from tests.agent.toy import Point

CONFIG = replace(
    preset("tiny"),
    updates_per_decision=1,
    steps=90,
    random_steps=30,
    evaluate_every=40,
    evaluation_episodes=1,
    final_episodes=2,
    device="cpu",
    save_every=0.0,
    learner=replace(preset("tiny").learner, batch_size=16),
    planning=replace(preset("tiny").planning, samples=16, elites=4, proposals=4),
)


def info():
    return AgentInfo("point", 1, 20, False)


def trainer(folder, config=CONFIG, make=Point):
    return Trainer(make(), make(), config, info(), folder)


@pytest.fixture(scope="module", autouse=True)
def logged_often():
    """So that runs this short have losses in their logs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Lessons, "LOG_EVERY", 10)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    trainer(folder).run()
    return folder


def stop_after(monkeypatch, method, calls):
    """Asks the trainer to stop in its n-th call of a method."""
    real, left = getattr(Trainer, method), iter(range(calls, -1, -1))

    def wrapped(self, *args, **kwargs):
        if next(left, -1) == 0:
            self.stop()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, method, wrapped)


def stopped_after(monkeypatch, method, calls, run):
    """A run that is asked to stop in its n-th call of a method, and does."""
    with monkeypatch.context() as patched:
        stop_after(patched, method, calls)
        with pytest.raises(TrainingStopped):
            run.run()


# Stretches of eight: 88 decisions in whole ones, and two more.
OVERLAPPED = replace(CONFIG, overlap=8)


@pytest.fixture(scope="module")
def undisturbed_overlap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed-overlap")
    trainer(folder, OVERLAPPED).run()
    return folder


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("_collect", 3),
        ("_update", 0),
        ("_update", 27),  # the last that are made before a stretch
        ("_update", 40),  # on the second thread
        ("_collect", 45),
        ("_look_up", 5),
        ("_collect", 89),  # in the decisions that fill no stretch
        ("_update", 84),
        ("_update", 89),  # those still due after the last decision
        ("_look_up", 60),
    ],
)
def test_an_overlapped_run_that_was_stopped_anywhere_comes_out_the_same(
    undisturbed_overlap, tmp_path, monkeypatch, method, calls
):
    stopped_after(monkeypatch, method, calls, trainer(tmp_path, OVERLAPPED))
    trainer(tmp_path, OVERLAPPED).resume()
    assert differences(undisturbed_overlap, tmp_path) == []


@pytest.mark.parametrize("sittings", [(50,), (48, 51), (88,), (20, 40, 89)])
def test_an_overlapped_run_goes_on_when_it_is_given_more_steps(undisturbed_overlap, tmp_path, sittings):
    """Whether or not a sitting ends with a whole stretch."""
    first, *more = sittings
    trainer(tmp_path, replace(OVERLAPPED, steps=first)).run()
    for steps in more:
        trainer(tmp_path, replace(OVERLAPPED, steps=steps)).resume()
    with pytest.raises(ConfigError, match="finished"):
        trainer(tmp_path, replace(OVERLAPPED, steps=sittings[-1])).resume()
    trainer(tmp_path, OVERLAPPED).resume()
    assert differences(undisturbed_overlap, tmp_path) == []


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("_collect", 3),
        ("_update", 0),
        ("_update", 17),
        ("_collect", 45),
        ("_look_up", 5),
        ("_look_up", 21),
        ("_look_up", 45),
        ("_update", 89),
    ],
)
def test_a_run_that_was_stopped_anywhere_comes_out_the_same(undisturbed, tmp_path, monkeypatch, method, calls):
    """In random actions, in the updates that make up for them, in planned decisions, and in every evaluation."""
    stopped_after(monkeypatch, method, calls, trainer(tmp_path))
    trainer(tmp_path).resume()
    assert differences(undisturbed, tmp_path) == []


def test_a_run_that_is_stopped_in_an_evaluation_loses_nothing(undisturbed, tmp_path, monkeypatch):
    """However long ago it was saved."""
    config = replace(CONFIG, save_every=1e6)
    stopped_after(monkeypatch, "_look_up", 5, trainer(tmp_path, config))
    assert resume.read(tmp_path).moment.step == 40
    trainer(tmp_path, config).resume()
    assert [name for name in differences(undisturbed, tmp_path) if "config" not in name] == []


def test_observations_that_are_too_large_to_be_saved_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_MOST", 3000)
    with pytest.raises(ConfigError, match="may take 3,000: see its observations"):
        trainer(tmp_path).run()


def test_a_run_that_is_stopped_after_every_few_decisions_comes_out_the_same(undisturbed, tmp_path, monkeypatch):
    again, sittings = False, 0
    while True:
        sittings += 1
        with monkeypatch.context() as patched:
            stop_after(patched, "_collect", 7)
            try:
                trainer(tmp_path).resume() if again else trainer(tmp_path).run()
            except TrainingStopped:
                again = True
                continue
            break
    assert sittings > 10
    assert differences(undisturbed, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine kills later, too
@pytest.mark.parametrize("overlap", [0, 8])
def test_twenty_kills_at_random_moments(tmp_path, overlap):
    run = Run(Point, info(), replace(CONFIG, steps=124, overlap=overlap), tmp_path)
    found = kill(run, 20, 0.4, random.Random(0))
    assert found["kills"] >= 20
    assert found["differences"] == []
    assert found["before_anything_was_saved"] < 15  # or nothing would have been tried


@pytest.mark.parametrize(
    ("what", "calls"), [("write", 9), ("write", 70), ("fsync", 11), ("fsync", 90), ("replace", 3), ("replace", 40)]
)
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(undisturbed, tmp_path, monkeypatch, what, calls):
    real, left = getattr(os, what), iter(range(calls, -1, -1))

    def failing(*args, **kwargs):
        if next(left, -1) <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as full:
        full.setattr(os, what, failing)
        full.setattr(Trainer, "SAVING_SHARE", 1.0)
        unlucky = trainer(tmp_path)
        with pytest.raises(OSError, match="No space"):
            unlucky.run()
    trainer(tmp_path).resume()
    assert differences(undisturbed, tmp_path) == []


def test_a_finished_run_goes_on_when_it_is_given_more_steps(undisturbed, tmp_path):
    trainer(tmp_path, replace(CONFIG, steps=50)).run()
    with pytest.raises(ConfigError, match="finished"):
        trainer(tmp_path, replace(CONFIG, steps=50)).resume()
    trainer(tmp_path).resume()
    assert differences(undisturbed, tmp_path) == []
    assert Agent.load(tmp_path).info.training["steps"] == 90


def test_two_runs_never_mix(undisturbed, tmp_path):
    with pytest.raises(ConfigError, match="holds a training run already"):
        trainer(undisturbed).run()
    with pytest.raises(CheckpointError, match="no training run that could go on"):
        trainer(tmp_path).resume()
    with pytest.raises(CheckpointError, match="no run folder"):
        trainer(tmp_path / "nothing").resume()


def test_a_run_never_begins_where_an_agent_is_kept(undisturbed, tmp_path):
    """One that came without the state of its run, as those that ship."""
    shutil.copytree(undisturbed, tmp_path / "agent", ignore=shutil.ignore_patterns("resume", "experience"))
    before = content_sha256({file.name: file.read_bytes().hex() for file in (tmp_path / "agent").glob("*.*")})
    with pytest.raises(ConfigError, match="holds an agent already"):
        trainer(tmp_path / "agent").run()
    after = content_sha256({file.name: file.read_bytes().hex() for file in (tmp_path / "agent").glob("*.*")})
    assert before == after


class Moody(Point):
    """Takes its starting states from nowhere."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=int(np.random.default_rng().integers(2**31)))


def test_an_environment_that_does_not_repeat_itself_goes_on_with_the_next_episode(tmp_path, monkeypatch):
    stopped_after(monkeypatch, "_collect", 44, trainer(tmp_path, make=Moody))
    resumed = trainer(tmp_path, make=Moody)
    resumed.resume()
    assert not resumed.exact
    with Experience(tmp_path / "experience", read_only=True) as experience:
        assert sum(episode.decisions for episode in experience.episodes) == CONFIG.steps
        assert [e.decisions for e in experience.episodes if not (e.terminated or e.truncated or e.running)] == [5]


def test_an_environment_that_does_not_repeat_its_beginning(tmp_path, monkeypatch):
    """Stopped before the first decision of an episode, it must not act on another beginning than the stored one."""
    stopped_after(monkeypatch, "_collect", 39, trainer(tmp_path, make=Moody))
    assert resume.read(tmp_path).moment.counts.episode_length == 0
    resumed = trainer(tmp_path, make=Moody)
    resumed.resume()
    assert not resumed.exact


class Precise(Point):
    """Reports more digits than are stored."""

    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, self.observation_space.shape, np.float64)

    def _observe(self):
        return super()._observe() + np.pi * 1e-12


def test_an_environment_of_double_precision_repeats_itself(tmp_path, monkeypatch):
    trainer(tmp_path / "undisturbed", make=Precise).run()
    stopped_after(monkeypatch, "_collect", 44, trainer(tmp_path / "stopped", make=Precise))
    resumed = trainer(tmp_path / "stopped", make=Precise)
    resumed.resume()
    assert resumed.exact
    assert differences(tmp_path / "undisturbed", tmp_path / "stopped") == []


@pytest.mark.parametrize("lost", [True, False])
def test_a_folder_in_use_keeps_its_log(undisturbed, tmp_path, monkeypatch, lost):
    """Also where its state was lost, or was written while this run was about to begin."""
    shutil.copytree(undisturbed, tmp_path / "run")
    if lost:
        shutil.rmtree(tmp_path / "run/resume")
    else:
        real, answers = resume.exists, iter([False])
        monkeypatch.setattr(resume, "exists", lambda folder: next(answers, None) is None and real(folder))
    (tmp_path / "run/config.json").unlink()  # as long as there was no evaluation
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="holds experience already" if lost else "holds a training run already"):
        trainer(tmp_path / "run").run()
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_what_a_kill_left_half_written_is_removed(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    left = [tmp_path / "run/resume/.state-0123456789ab.safetensors.7.tmp"]
    left += [tmp_path / "run/.weights-0123456789ab.safetensors.7.tmp"]
    theirs = tmp_path / "run/weights-mine.safetensors"
    for file in (*left, theirs):
        file.write_bytes(b"half")
    trainer(tmp_path / "run", replace(CONFIG, steps=95)).resume()
    assert not any(file.exists() for file in left)
    assert theirs.exists()


@pytest.fixture
def stopped(undisturbed, tmp_path):
    """A copy of a finished run, which more steps would go on with."""
    shutil.copytree(undisturbed, tmp_path / "run")
    return tmp_path / "run"


def refused(folder, *words):
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "lock"}
    with pytest.raises(ValueError) as error:  # noqa: PT011 - of several classes
        trainer(folder, replace(CONFIG, steps=100)).resume()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert all(file.read_bytes() == content for file, content in before.items())


def state_file(folder):
    return folder / "resume" / "state.json"


def test_a_damaged_state_is_refused_and_left_as_it_is(stopped):
    (tensors,) = (stopped / "resume").glob("state-*.safetensors")
    data = tensors.read_bytes()
    for damaged in (data[:-1], data[:100], b"", bytes([*data[:-9], data[-9] ^ 1, *data[-8:]])):
        tensors.write_bytes(damaged)
        refused(stopped, tensors.name)
    tensors.unlink()
    refused(stopped, tensors.name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', f'{{"schema": {resume.SCHEMA + 1}}}'])
def test_a_state_that_is_none(stopped, text):
    state_file(stopped).write_text(text)
    refused(stopped, "state.json")


def test_a_state_from_before_a_setting_goes_on_as_it_was(stopped):
    state = json.loads(state_file(stopped).read_text())
    del state["sha256"], state["config"]["compile"]
    del state["config"]["planning"]["indifference"]
    state["schema"] = 2
    state["sha256"] = content_sha256(state)
    state_file(stopped).write_text(json.dumps(state))
    config = resume.read(stopped).config
    assert (config.planning.indifference, config.compile) == (0, False)
    trainer(stopped, replace(config, steps=100)).resume()
    assert json.loads(state_file(stopped).read_text())["schema"] == resume.SCHEMA


def test_a_state_with_settings_that_are_gone_goes_on_without(stopped):
    state = json.loads(state_file(stopped).read_text())
    del state["sha256"], state["config"]["planning"]["pessimism"]
    state["config"]["planning"]["distrust"] = 0.0
    state["config"]["learner"]["policy_scale"] = "values"
    state["schema"] = 3
    state["sha256"] = content_sha256(state)
    state_file(stopped).write_text(json.dumps(state))
    assert resume.read(stopped).config == CONFIG


def test_a_state_of_what_is_gone(stopped):
    state = json.loads(state_file(stopped).read_text())
    del state["sha256"]
    state["config"]["model"]["encoder_blocks"] = 1
    state["schema"] = 4
    state_file(stopped).write_text(json.dumps(state | {"sha256": content_sha256(state)}))
    refused(stopped, "residual encoders were taken out")


@pytest.mark.parametrize(("doubt", "wide_share"), [(0.01, 1.0), (0.0, 0.5), (0.0, 1.0)])
def test_a_state_that_says_how_it_explores(stopped, doubt, wide_share):
    state = json.loads(state_file(stopped).read_text())
    del state["sha256"]
    state["config"]["planning"]["doubt"], state["config"]["wide_share"] = doubt, wide_share
    state["schema"] = 8
    state_file(stopped).write_text(json.dumps(state | {"sha256": content_sha256(state)}))
    if (doubt, wide_share) == (0, 1):  # as all do now
        assert resume.read(stopped).config == CONFIG
    else:
        refused(stopped, f"{'planning.doubt' if doubt else 'wide_share'} is")


@pytest.mark.parametrize("config", [[], {"planning": 3}])
def test_an_old_state_whose_settings_are_none(stopped, config):
    state = json.loads(state_file(stopped).read_text()) | {"schema": 2, "config": config}
    del state["sha256"]
    state_file(stopped).write_text(json.dumps(state | {"sha256": content_sha256(state)}))
    refused(stopped, "state.json")


def test_a_state_that_was_edited(stopped):
    state = json.loads(state_file(stopped).read_text())
    state["moment"]["step"] += 1
    state_file(stopped).write_text(json.dumps(state))
    refused(stopped, "checksum")


WRONG = {
    "step": [None, -1, "1", 1.5, True, 10**30],
    "counts": [None, [], {}, {"updates": "many"}, {"luck": 1}],
    "last_return": ["high", [], {}],
    "rngs": [None, {}, {"sampling": 3}, {name: {"state": 1} for name in ("episode_seeds", "random_actions")}],
    "plan_elites": ["none", -1, 10**9, 2],
    "plan_age": [None, -1, []],
    "priorities": [None, -1, 10**12, 2**62, "all", 1],
    "log": [None, -1, "0", 10**9],
    "experience": [None, {}, [], {"segment": 1}],
    "seconds": [None, "long"],
    "finished": [None, 1, "no"],
    "device": ["cuda", 3],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_state_that_a_stranger_made(stopped, key, value):
    """Its checksum is right, and it says nonsense."""
    state = json.loads(state_file(stopped).read_text())
    state["moment"][key] = value
    del state["sha256"]
    state["sha256"] = content_sha256(state)
    state_file(stopped).write_text(json.dumps(state))
    refused(stopped)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": 3},
        {"angles": None},
        {"training": []},
        {"training": {"resumed": 3}},
        {"wheels": 4},
        {"action_repeat": 0},
    ],
)
def test_a_state_for_nothing_known(stopped, changes):
    state = json.loads(state_file(stopped).read_text())
    state["info"] |= changes
    del state["sha256"]
    state["sha256"] = content_sha256(state)
    state_file(stopped).write_text(json.dumps(state))
    refused(stopped, "state.json")


def test_a_run_that_lost_its_log_or_its_experience(stopped, undisturbed):
    (stopped / "metrics.jsonl").write_text("")
    refused(stopped, "metrics.jsonl")
    shutil.copy(undisturbed / "metrics.jsonl", stopped)
    shutil.rmtree(stopped / "experience")
    refused(stopped, "experience")


def test_only_one_state_is_kept(undisturbed):
    assert sorted(file.name for file in (undisturbed / "resume").iterdir()) == [
        resume.read(undisturbed).file,
        "state.json",
    ]


def test_saving_takes_no_more_than_its_share(tmp_path, monkeypatch):
    """However slow the disk is."""
    waits = []

    def slow(*args):
        waits.append(1)
        clock.now += 5.0
        return write(*args)

    class Clock:
        now = 0.0

        def perf_counter(self):
            self.now += 0.01
            return self.now

    clock, write = Clock(), resume.write
    monkeypatch.setattr(resume, "write", slow)
    monkeypatch.setattr("agent.trainer.time.perf_counter", clock.perf_counter)
    trainer(tmp_path, replace(CONFIG, steps=2000, random_steps=2000, evaluate_every=0, updates_per_decision=0)).run()
    assert 2 <= len(waits) <= 4  # at the beginning and the end, and hardly in between
