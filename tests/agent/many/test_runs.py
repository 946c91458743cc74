"""Many agents trained together come out as each would alone, to rounding."""

import copy
import time
from collections import Counter
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agent import AgentInfo, Experience, Trainer, TrainingStopped, preset, resume
from agent.lessons import Lessons
from agent.many import Together
from benchmarks.kills import differences
from tests.agent.test_trainer import records
from tests.agent.toy import Point, shake

TINY = preset("tiny")
CONFIG = replace(
    TINY,
    steps=36,
    random_steps=24,
    updates_per_decision=1,
    evaluate_every=30,
    evaluation_episodes=1,
    final_episodes=1,
    device="cpu",
    learner=replace(TINY.learner, batch_size=16),
    planning=replace(TINY.planning, samples=16, elites=4, proposals=4),
)


class Spinner(gymnasium.Env):
    """A wheel that can be turned for ever, on a cart; never ends before its time."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.angle, self.t = float(self.np_random.uniform(-1, 1)), float(self.np_random.uniform(0, 9)), 0
        return self._observe(), {}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.3 * float(action[0]), -1.5, 1.5))
        self.angle += float(action[1])
        self.t += 1
        return self._observe(), float(np.cos(self.angle) - self.x**2), False, self.t >= 8, {}

    def _observe(self):
        return np.array([self.x, self.angle, self.t / 8, self.x * self.t], np.float32)


# A world whose episodes can't end early, one whose can, and one with other sizes and an angle that winds up.
WORLDS = [
    (lambda: Point(length=10), AgentInfo("point", 1, 10, False)),
    (lambda: Point(can_terminate=True, length=10), AgentInfo("edge", 1, 10, True)),
    (Spinner, AgentInfo("spinner", 1, 8, False, (1,))),
]


@pytest.fixture(scope="module", autouse=True)
def logged_often():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Lessons, "LOG_EVERY", 4)
        yield


def trainers(folder, config=CONFIG, worlds=WORLDS, together=None):
    made = []
    for i, (make, info) in enumerate(worlds):
        engine = None if together is None else together.engine(i)
        seeded = replace(config, seed=i)
        made.append(Trainer(make(), make(), seeded, copy.deepcopy(info), folder / str(i), engine=engine))
        # What has learned nothing scores all candidates alike, and rounding would choose among them.
        shake(made[-1].agent.model, 0.2)
    return made


def train_together(folder, config=CONFIG, worlds=WORLDS):
    together = Together(len(worlds))
    made = trainers(folder, config, worlds, together)
    return made, together.run([trainer.run for trainer in made])


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    made, outcomes = train_together(folder)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    return folder, made


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
    folder, made = together
    for i, alone in enumerate(trainers(tmp_path)):
        alone.run()
        found, expected = records(folder / str(i)), records(tmp_path / str(i))
        assert Counter(record["kind"] for record in found)["update"] == 9
        assert {record["kind"] for record in found} >= {"update", "episode", "evaluation", "final"}
        assert_alike(found, expected)
        theirs = alone.agent.model.state_dict()
        for name, x in made[i].agent.model.state_dict().items():
            # Where a gradient is all rounding, Adam makes a whole step of it.
            assert (x - theirs[name]).abs().mean() < 1e-5, name
        assert np.allclose(actions(folder / str(i)), actions(tmp_path / str(i)), atol=1e-3)


def test_the_same_seeds_train_the_same_agents_whichever_thread_is_slow(together, tmp_path, monkeypatch):
    real = Trainer._collect

    def slow(self, random):
        if self.info.task != "edge":
            time.sleep(0.003 * (1 + self.progress.step % 3))
        return real(self, random)

    monkeypatch.setattr(Trainer, "_collect", slow)
    train_together(tmp_path)
    for i in range(3):
        assert differences(together[0] / str(i), tmp_path / str(i)) == []


class Failing(Point):
    def step(self, action):
        if self.t == 17:
            raise OSError("the wheel came off")
        return super().step(action)


def test_a_run_that_fails_leaves_the_others_to_finish(tmp_path):
    worlds = [WORLDS[0], (Failing, AgentInfo("failing", 1, 20, False)), WORLDS[2]]
    made, outcomes = train_together(tmp_path, worlds=worlds)
    assert [type(outcome.error) for outcome in outcomes] == [type(None), OSError, type(None)]
    for i in (0, 2):
        assert made[i].progress.step == CONFIG.steps
        assert resume.read(tmp_path / str(i)).moment.finished
        assert outcomes[i].result["planner"].seeds == [10_000]


def test_runs_that_were_stopped_go_on_together(together, tmp_path):
    first = Together(3)
    made = trainers(tmp_path, together=first)
    made[1].on_progress = lambda progress: [each.stop() for each in made]  # after 25 decisions, in their midst
    outcomes = first.run([trainer.run for trainer in made])
    assert all(isinstance(outcome.error, TrainingStopped) for outcome in outcomes)
    assert all(0 < trainer.progress.step < CONFIG.steps for trainer in made)
    again = Together(3)
    made = trainers(tmp_path, together=again)
    assert [outcome.error for outcome in again.run([trainer.resume for trainer in made])] == [None] * 3
    for i in range(3):
        assert made[i]._counts.updates == CONFIG.steps
        assert_alike(records(tmp_path / str(i)), records(together[0] / str(i)))


def test_a_planner_that_climbs_gradients_plans_beside_others(tmp_path):
    planning = replace(CONFIG.planning, planner="gradient", samples=4, iterations=2)
    config = replace(CONFIG, planning=planning, steps=26, evaluate_every=0)
    _, outcomes = train_together(tmp_path / "together", config, WORLDS[:2])
    assert [outcome.error for outcome in outcomes] == [None, None]
    for i, alone in enumerate(trainers(tmp_path / "alone", config, WORLDS[:2])):
        alone.run()
        assert_alike(records(tmp_path / "together" / str(i)), records(tmp_path / "alone" / str(i)))


def test_every_trainer_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match="expected 2"):
        Together(2).run([lambda: None])
