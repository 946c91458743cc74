"""Many agents trained together come out as each would alone, to rounding."""

import errno
import os
import signal
import threading
from collections import Counter
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from agent import AgentInfo, ConfigError, Experience, ProcessError, TrainingStopped, resume
from agent.lessons import Lessons
from agent.many import Together
from agent.many.desk import Ask, Desk, Said, Sizes
from agent.many.host import Host
from agent.many.networks import Shape
from agent.trainer import Trainer
from benchmarks.kills import differences
from tests.agent.many.runs import CONFIG, WORLDS, Failing, Life, leaving, slow_point, unsendable
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


class Full:
    """Called back by runs, and can't write what it is told."""

    def __init__(self):
        self.calls = 0

    def __call__(self, number, what):
        self.calls += 1
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["on_tell", "on_end"])
def test_a_callback_that_fails_stops_the_runs_and_is_told(tmp_path, name):
    full, config = Full(), replace(CONFIG, save_every=0.0)
    with pytest.raises(OSError, match="No space left"):
        Together([Life(i, tmp_path, config) for i in range(2)], config, **{name: full}).run()
    assert full.calls == 1
    for i in range(2):  # and they can go on
        assert resume.read(tmp_path / str(i)).moment.step > 0


def test_runs_that_overlap_acting_and_learning_are_refused():
    """Both threads of a run would ask at one desk."""
    with pytest.raises(ConfigError, match="overlap"):
        Together([], replace(CONFIG, overlap=4))


def test_runs_that_are_stopped_before_they_begin(tmp_path):
    together = Together([Life(i, tmp_path) for i in range(2)], CONFIG)
    together.stop()
    assert [type(outcome.error) for outcome in together.run()] == [TrainingStopped] * 2


def test_a_desk_takes_few_open_files_however_many_sit_at_it(tmp_path):
    shape = Shape.of(Life(0, tmp_path).trainer().agent.model, True)
    desk = Desk(Sizes(3, shape, CONFIG))
    sent = ForkingPickler.dumps(desk)
    before = len(os.listdir("/proc/self/fd"))
    there = ForkingPickler.loads(sent)
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    there.asks[1, 0], there.said[2], there.arrays["mask"][1, 0, 0] = Ask.PLAN, Said.DIVERGED, 0
    assert desk.asks.tolist() == [[0, 0], [Ask.PLAN, 0], [0, 0]]
    assert desk.said.tolist() == [0, 0, Said.DIVERGED]
    assert (desk.arrays["mask"] == 0).sum() == 1
    assert all(x.data_ptr() % 64 == 0 for x in desk.arrays.values() if x.numel())


@pytest.mark.parametrize("end", [unsendable, leaving])
def test_a_run_whose_end_cannot_be_sent_says_why(end):
    (outcome,) = Together([end], CONFIG).run()
    assert outcome.result is None
    assert ("pickle" if end is unsendable else "SystemExit: 3") in str(outcome.error)


def test_a_process_that_cannot_take_its_place_ends_and_so_do_the_others(tmp_path, monkeypatch):
    """As when too many files are open."""

    def refuse(self):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Desk, "__getstate__", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        Together([Life(i, tmp_path) for i in range(2)], CONFIG).run()


def test_where_nothing_can_be_computed_that_is_told_and_not_that_runs_ended(tmp_path, monkeypatch):
    def refuse(self):
        raise MemoryError("no room for the agents")

    monkeypatch.setattr(Host, "_set_up", refuse)
    ended = []
    together = Together([Life(0, tmp_path)], CONFIG, on_end=lambda number, outcome: ended.append(outcome))
    with pytest.raises(MemoryError, match="no room"):
        together.run()
    assert ended == []


def test_a_signal_to_all_while_processes_begin_is_left_to_who_began_them(tmp_path):
    """A terminal sends it to every process, also to those that have not got so far as to ignore it."""
    together = Together([Life(i, tmp_path) for i in range(2)], CONFIG)
    start = together._start

    def start_and_signal(*arguments):
        start(*arguments)
        os.kill(together._processes[-1].pid, signal.SIGINT)
        os.kill(together._processes[-1].pid, signal.SIGTERM)

    together._start = start_and_signal
    assert [outcome.error for outcome in together.run()] == [None, None]


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
