"""Many agents trained together come out as each would alone, to rounding."""

import os
import signal
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from agent import AgentInfo, Experience, ProcessError, TrainingStopped, resume
from agent.lessons import Lessons
from agent.many import Together
from agent.trainer import Trainer
from benchmarks.kills import differences
from tests.agent.many.runs import CONFIG, WORLDS, Failing, Life, slow_point
from tests.agent.test_trainer import records


@pytest.fixture(autouse=True)
def often():
    """What the processes of runs set for themselves, so that runs alone do the same."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Lessons, "LOG_EVERY", 4)
        patched.setattr(Trainer, "REPORT_EVERY", 5)
        yield


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    outcomes = Together([Life(i, folder) for i in range(3)], CONFIG).run()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    return folder, outcomes


def assert_alike(one, other):
    """Logs say the same, to rounding that has grown over some tens of updates."""
    timed = {"time", "seconds", "milliseconds", "steps_per_second", "milliseconds_per_plan"}
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        # What is evaluated last was stored in half precision, where rounding can tip a weight to its neighbour.
        rtol = 2e-2 if a["kind"] == "final" else 5e-3
        for key in a.keys() - timed:
            if isinstance(a[key], float | list) and key != "seeds" and key != "lengths":
                expected = [np.nan if x is None else x for x in np.atleast_1d(np.array(b[key], dtype=object))]
                found = [np.nan if x is None else x for x in np.atleast_1d(np.array(a[key], dtype=object))]
                assert found == pytest.approx(expected, rel=rtol, abs=rtol, nan_ok=True), (key, a, b)
            else:
                assert a[key] == b[key], (key, a, b)


def actions(folder):
    with Experience(folder / "experience", read_only=True) as experience:
        return np.concatenate([experience.read(episode).actions for episode in experience.episodes])


def test_agents_trained_together_come_out_as_each_alone(together, tmp_path):
    folder, outcomes = together
    for i, outcome in enumerate(outcomes):
        alone = Life(i, tmp_path).trainer()
        alone.run()
        found, expected = records(folder / str(i)), records(tmp_path / str(i))
        assert Counter(record["kind"] for record in found)["update"] == 9
        assert {record["kind"] for record in found} >= {"update", "episode", "evaluation", "final"}
        assert_alike(found, expected)
        theirs = alone.agent.model.state_dict()
        for name, x in outcome.result[2].items():
            # Where a gradient is all rounding, Adam makes a whole step of it.
            assert np.abs(x - theirs[name].numpy()).mean() < 1e-5, name
        assert np.allclose(actions(folder / str(i)), actions(tmp_path / str(i)), atol=1e-3)


def test_the_same_seeds_train_the_same_agents_whichever_process_is_slow(together, tmp_path):
    lives = [Life(0, tmp_path, world=(slow_point, WORLDS[0][1])), Life(1, tmp_path), Life(2, tmp_path)]
    outcomes = Together(lives, CONFIG).run()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    for i in range(3):
        assert differences(together[0] / str(i), tmp_path / str(i)) == []


def test_a_run_that_fails_leaves_the_others_to_finish(tmp_path):
    lives = [
        Life(0, tmp_path),
        Life(1, tmp_path, world=(Failing, AgentInfo("failing", 1, 20, False))),
        Life(2, tmp_path),
    ]
    ended = []
    outcomes = Together(lives, CONFIG, on_end=lambda number, outcome: ended.append(number)).run()
    assert [type(outcome.error) for outcome in outcomes] == [type(None), OSError, type(None)]
    assert "in step" in "".join(outcomes[1].error.__notes__)  # where it was raised
    assert sorted(ended) == [0, 1, 2]
    assert ended[0] == 1
    for i in (0, 2):
        assert resume.read(tmp_path / str(i)).moment.finished
        assert outcomes[i].result[0] == [10_000]


def test_runs_that_were_stopped_go_on_together(together, tmp_path):
    told = []

    def tell(number, step):
        told.append((number, step))
        if number == 1 and step >= 10:
            first.stop()

    config = replace(CONFIG, save_every=0.0)
    first = Together([Life(i, tmp_path, config) for i in range(3)], config, on_tell=tell)
    assert all(isinstance(outcome.error, TrainingStopped) for outcome in first.run())
    assert {number for number, _ in told} >= {1}
    steps = [resume.read(tmp_path / str(i)).moment.step for i in range(3)]
    assert all(step < CONFIG.steps for step in steps)
    outcomes = Together([Life(i, tmp_path, config, resume=True) for i in range(3)], config).run()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    for i in range(3):
        assert outcomes[i].result[1] == CONFIG.steps
        assert_alike(records(tmp_path / str(i)), records(together[0] / str(i)))


def test_a_killed_process_leaves_the_others_to_finish(tmp_path):
    lives = [Life(i, tmp_path) for i in range(3)]
    together = Together(lives, CONFIG, on_tell=lambda number, step: number == 2 and kill())

    def kill():
        os.kill(together._processes[2].pid, signal.SIGKILL)

    outcomes = together.run()
    assert isinstance(outcomes[2].error, ProcessError)
    assert [outcome.error for outcome in outcomes[:2]] == [None, None]


def test_a_stop_is_heard_when_a_process_is_gone(tmp_path):
    """One that is gone must not keep the others from hearing it, nor who asks for it from going on."""

    def tell(number, step):
        if number == 2 and not gone:
            gone.append(number)
            os.kill(together._processes[2].pid, signal.SIGKILL)
            together._processes[2].join()
            threading.Timer(0, together.stop).start()

    gone = []
    together = Together([Life(i, tmp_path) for i in range(3)], CONFIG, on_tell=tell)
    kinds = [type(outcome.error) for outcome in together.run()]
    assert kinds[2] is ProcessError
    assert set(kinds[:2]) <= {TrainingStopped, type(None)}


def test_a_planner_that_climbs_gradients_plans_beside_others(tmp_path):
    planning = replace(CONFIG.planning, planner="gradient", samples=4, iterations=2)
    config = replace(CONFIG, planning=planning, steps=26, evaluate_every=0)
    outcomes = Together([Life(i, tmp_path / "together", config) for i in range(2)], config).run()
    assert [outcome.error for outcome in outcomes] == [None, None]
    for i in range(2):
        Life(i, tmp_path / "alone", config).trainer().run()
        assert_alike(records(tmp_path / "together" / str(i)), records(tmp_path / "alone" / str(i)))


def test_agents_that_act_by_their_prior_alone_do_so_as_they_are_by_then(tmp_path):
    config = replace(CONFIG, planning=replace(CONFIG.planning, planner="policy"), evaluate_every=0)
    outcomes = Together([Life(i, tmp_path / "together", config) for i in range(2)], config).run()
    assert [outcome.error for outcome in outcomes] == [None, None]
    for i in range(2):
        Life(i, tmp_path / "alone", config).trainer().run()
        assert_alike(records(tmp_path / "together" / str(i)), records(tmp_path / "alone" / str(i)))
