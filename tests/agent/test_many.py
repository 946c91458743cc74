"""Many agents trained together come out as each would alone, to rounding."""

import copy
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agent import Agent, AgentInfo, DivergedError, Experience, Learner, Trainer, TrainingStopped, preset, resume
from agent.lessons import Lessons
from agent.losses import Lesson
from agent.many import Together
from agent.many.answers import Answers
from agent.many.meeting import Meeting
from agent.many.padding import cut, stack
from agent.many.requests import Propose, Rate, Update
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


# What is computed in one call.

VARIANTS = {
    "tiny": {},
    "blocks": {"model": {"encoder_blocks": 1}},
    "own reward": {"model": {"reward_head": "own"}},
    "three values": {"model": {"value_heads": 3}, "learner": {"returns": "single", "slow_encoder": False}},
}
SIZES = [(5, 2, False, ()), (7, 3, False, (2, 4)), (4, 1, True, ()), (5, 2, True, (0,)), (6, 1, False, ())]


def agents(variant="tiny"):
    changes = VARIANTS[variant]
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, **changes.get("model", {})),
        learner=replace(CONFIG.learner, **changes.get("learner", {})),
    )
    made = []
    for i, (observations, actions, terminates, angles) in enumerate(SIZES):
        info = AgentInfo("toy", 1, 20 * (i + 1), terminates, angles)  # the discount is another for each
        agent = Agent(config, observations, actions, info, "cpu", seed=i)
        shake(agent.model, 0.2)
        agent.model.norm.update(torch.randn(50, observations, generator=agent.generator) * 3 + 1)
        made.append(agent)
    return made


def lesson(agent):
    generator, model = torch.Generator().manual_seed(3), agent.model
    mask = torch.ones(3, 16)
    mask[1:, 5] = mask[2, 9] = 0
    terminated = torch.zeros(3, 16)
    if model.continuation is not None:
        terminated[2, 3] = 1
    return Lesson(
        torch.randn(4, 16, model.observation_dim, generator=generator) * 2,
        torch.rand(3, 16, model.action_dim, generator=generator) * 2 - 1,
        torch.randn(3, 16, generator=generator),
        terminated,
        mask,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_proposals_and_scores_of_many_are_those_of_each(variant):
    answers = Answers()
    made = agents(variant)
    asked = [
        Propose(agent.model, torch.randn(1, agent.model.observation_dim), agent._proposal_noise()) for agent in made
    ]
    rates = []
    for request, (latent, proposals) in zip(asked, answers(asked), strict=True):
        expected = request.alone()
        assert torch.allclose(latent, expected[0], atol=1e-5)
        assert torch.allclose(proposals, expected[1], atol=1e-5)
        assert proposals.shape[-1] == request.model.action_dim
        rates.append(Rate(request.model, latent, proposals, "mean"))
    for request, values in zip(rates, answers(rates), strict=True):
        assert torch.allclose(values, request.alone(), rtol=1e-4, atol=1e-5)
    bare = [replace(request, noise=None) for request in asked]
    for request, (latent, proposals) in zip(bare, answers(bare), strict=True):
        assert proposals is None
        assert torch.allclose(latent, request.alone()[0], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_of_many_are_those_of_each(variant):
    together, alone = (
        [
            Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(i))
            for i, agent in enumerate(agents(variant))
        ]
        for _ in "ab"
    )
    lessons, answers = [lesson(agent) for agent in agents(variant)], Answers()
    for _ in range(4):
        asked = [Update(each, x, each._noise(3, 16)) for each, x in zip(together, lessons, strict=True)]
        found = answers(asked)
        for learner, x, mine in zip(alone, lessons, found, strict=True):
            expected = learner.learn(x, learner._noise(3, 16))
            assert mine.metrics.keys() == expected.metrics.keys()
            for name, value in expected.metrics.items():
                assert torch.allclose(mine.metrics[name], value, rtol=1e-4, atol=1e-5), name
            assert torch.allclose(mine.errors, expected.errors, rtol=1e-4, atol=1e-4)
    for one, other in zip(together, alone, strict=True):
        theirs = other.model.state_dict() | other.state()
        for name, x in (one.model.state_dict() | one.state()).items():
            close = (x.double() - theirs[name].double()).abs()
            # Where a gradient is all rounding, Adam makes a whole step of it.
            assert close.mean() < 1e-6, name
            assert close.max() < 2e-3, name


def test_a_learner_that_diverges_leaves_the_others_alone():
    made = [agent for agent in agents() if agent.model.continuation is None]
    learners = [Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(1)) for agent in made]
    with torch.no_grad():
        made[1].model.dynamics[0].bias[0] = torch.nan
    before = copy.deepcopy([agent.model.state_dict() for agent in made])
    answers = Answers()([Update(x, lesson(a), x._noise(3, 16)) for x, a in zip(learners, made, strict=True)])
    assert [isinstance(answer, DivergedError) for answer in answers] == [False, True, False]
    for agent, old, diverges in zip(made, before, (False, True, False), strict=True):
        weight = agent.model.dynamics[3].weight
        assert torch.equal(weight, old["dynamics.3.weight"]) == diverges
        assert torch.isfinite(weight).all()


def test_stacks_are_made_anew_when_a_model_has_learned():
    made, answers = agents()[:2], Answers()
    asked = [Propose(agent.model, torch.ones(1, agent.model.observation_dim), None) for agent in made]
    first = answers(asked)
    assert len(answers._current) == 1
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, answers(asked), strict=True))
    Learner(made[0].model, made[0].config.learner, torch.Generator()).learn(
        lesson(made[0]), Learner(made[0].model, made[0].config.learner, torch.Generator())._noise(3, 16)
    )
    made[1].model.norm.update(torch.randn(9, made[1].model.observation_dim))
    for request, before, after in zip(asked, first, answers(asked), strict=True):
        assert not torch.equal(before[0], after[0])
        assert torch.allclose(after[0], request.alone()[0], atol=1e-5)


def test_padding_and_back():
    tensors = [torch.randn(4, 3, 2), torch.randn(6, 1, 5)]
    for halves in (False, True):
        stacked = stack(tensors, halves)
        assert stacked.shape == (2, 6, 3, 5)
        assert stacked.abs().sum() == pytest.approx(sum(float(x.abs().sum()) for x in tensors))
        for row, x in zip(stacked, tensors, strict=True):
            assert torch.equal(cut(row, x, halves), x)
    assert not torch.equal(stack(tensors), stack(tensors, halves=True))


# Where the threads meet.


@dataclass(frozen=True)
class Ask:
    order: int
    what: str


def meet(scripts, answer):
    """Threads that ask one thing after another, each after so many seconds; what each got."""
    meeting, got = Meeting(len(scripts), answer), [[] for _ in scripts]

    def live(seat):
        try:
            for seconds, request in scripts[seat]:
                time.sleep(seconds)
                got[seat].append(meeting.ask(seat, request))
        except Exception as error:
            got[seat].append(error)
        finally:
            meeting.leave(seat)

    threads = [threading.Thread(target=live, args=(seat,), daemon=True) for seat in range(len(scripts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return got


@pytest.mark.parametrize("slow", range(3))
def test_requests_are_answered_in_the_same_groups_whichever_thread_is_slow(slow):
    calls = []

    def answer(requests):
        calls.append([request.what for request in requests])
        return [request.what.upper() for request in requests]

    scripts = [
        [Ask(0, "a0"), Ask(1, "a1"), Ask(2, "a2")],
        [Ask(1, "b1"), Ask(2, "b2")],
        [Ask(2, "c2"), Ask(0, "c0"), Ask(2, "c3")],
    ]
    got = meet([[(0.02 * (i == slow), each) for each in script] for i, script in enumerate(scripts)], answer)
    assert got == [[each.what.upper() for each in script] for script in scripts]
    assert calls == [["a0"], ["a1", "b1"], ["a2", "b2", "c2"], ["c0"], ["c3"]]


def test_an_error_in_a_call_is_raised_in_all_that_asked_and_in_no_other():
    def answer(requests):
        if requests[0].order == 1:
            raise KeyError("no")
        return [ValueError("only you") if request.what == "bad" else request.what for request in requests]

    scripts = [[Ask(1, "a"), Ask(0, "x")], [Ask(1, "b")], [Ask(0, "bad")], [Ask(0, "c"), Ask(2, "d")]]
    got = meet([[(0, each) for each in script] for script in scripts], answer)
    assert [[type(x) for x in each] for each in got] == [[KeyError], [KeyError], [ValueError], [str, str]]


def test_a_seat_is_for_one_thread():
    meeting = Meeting(2, lambda requests: list(requests))
    meeting.leave(1)
    with pytest.raises(RuntimeError, match="seat 1"):
        meeting.ask(1, Ask(0, "x"))
    assert meeting.ask(0, Ask(0, "y")) == Ask(0, "y")
