"""Acting and learning at once: what comes out doesn't depend on which is quicker."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from agent import DivergedError, Learner, Trainer
from agent.experience import Experience
from agent.overlap import Overlap
from benchmarks.kills import differences
from tests.agent.test_resume import CONFIG, Point, logged_often, trainer  # noqa: F401
from tests.agent.test_trainer import Diverging, lived, records

OVERLAPPED = replace(CONFIG, overlap=8)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlap")
    trainer(folder, OVERLAPPED).run()
    return folder


def slowed(monkeypatch, cls, method, seconds):
    real = getattr(cls, method)

    def slow(*args, **kwargs):
        time.sleep(seconds)
        return real(*args, **kwargs)

    monkeypatch.setattr(cls, method, slow)


@pytest.mark.parametrize(
    "slow", [None, (Trainer, "_update", 0.01), (Trainer, "_collect", 0.02), (Experience, "sample", 0.01)]
)
def test_the_same_seed_trains_the_same_agent_whichever_thread_is_slow(undisturbed, tmp_path, monkeypatch, slow):
    if slow:
        slowed(monkeypatch, *slow)
    trainer(tmp_path, OVERLAPPED).run()
    assert differences(undisturbed, tmp_path) == []


@pytest.mark.parametrize(
    ("overlap", "updates", "steps", "random_steps"),
    [(8, 1, 90, 30), (8, 3, 61, 32), (1, 1, 50, 20), (64, 2, 50, 20), (7, 1, 70, 0), (7, 0, 70, 0)],
)
def test_it_makes_as_many_updates_as_in_turn(tmp_path, overlap, updates, steps, random_steps):
    config = replace(CONFIG, updates_per_decision=updates, steps=steps, random_steps=random_steps, final_episodes=1)
    for each in (0, overlap):
        run = trainer(tmp_path / str(each), replace(config, overlap=each))
        run.run()
        assert run._counts.updates == updates * steps
        assert run._counts.due == 0
        with Experience(run.folder / "experience", read_only=True) as experience:
            assert len(experience) == steps
    episodes = [[r["step"] for r in records(tmp_path / str(each)) if r["kind"] == "episode"] for each in (0, overlap)]
    assert episodes[0] == episodes[1]


def test_a_stretch_learns_beside_its_decisions_and_from_none_of_them(tmp_path, monkeypatch):
    seen, threads = [], set()
    update, collect = Learner.update, Trainer._collect

    def watched(self, batch):
        seen.append((run.progress.step, run.experience.total, int(batch.starts.max()), int(batch.mask.sum())))
        threads.add(threading.current_thread().name)
        return update(self, batch)

    def checked(self, random):
        weights.append(self.agent.model.encoder[0].weight.detach().clone())
        return collect(self, random)

    weights: list[torch.Tensor] = []
    monkeypatch.setattr(Learner, "update", watched)
    monkeypatch.setattr(Trainer, "_collect", checked)
    run = trainer(tmp_path, OVERLAPPED)
    run.run()
    assert len(threads) == 2
    assert all(step == total and step % 8 == 0 for step, total, _, _ in seen[:-2])
    assert all(newest < total for _, total, newest, _ in seen)
    # The agent acts with one model throughout a stretch, and with another in the next.
    for begin in range(40, 88, 8):
        assert all(torch.equal(weights[begin], x) for x in weights[begin : begin + 8])
        assert not torch.equal(weights[begin], weights[begin + 8])
    assert all(
        torch.equal(x, y)
        for x, y in zip(run.agent.model.state_dict().values(), run.learner.model.state_dict().values(), strict=True)
    )


def test_what_goes_wrong_on_the_second_thread_is_told_by_the_first(tmp_path, monkeypatch):
    real, failing = Learner.update, [60]

    def update(self, batch):
        failing[0] -= 1
        if failing[0] == 0:
            assert threading.current_thread() is not threading.main_thread()
            raise error
        return real(self, batch)

    monkeypatch.setattr(Learner, "update", update)
    error: Exception = DivergedError("the losses are bad")
    with pytest.raises(DivergedError, match=r"diverged at step \d+: the losses are bad; try a lower"):
        trainer(tmp_path / "a", OVERLAPPED).run()
    error, failing[0] = OSError("no such luck"), 60
    with pytest.raises(OSError, match="no such luck"):
        trainer(tmp_path / "b", OVERLAPPED).run()


def test_an_error_while_acting_waits_for_the_second_thread():
    done = []

    def learn(goes_on):
        while goes_on():
            time.sleep(0.01)
        done.append(True)

    def act():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Overlap(1).run(learn, act)
    assert done == [True]


def test_the_second_thread_has_as_many_torch_threads_as_the_first():
    found = []
    Overlap(1).run(lambda goes_on: found.append(torch.get_num_threads()), lambda: None)
    assert found == [1]


def test_a_diverged_simulation_is_not_learned_from(tmp_path):
    run = trainer(tmp_path, OVERLAPPED, make=Diverging)
    run.run()
    with Experience(tmp_path / "experience", read_only=True) as experience:
        assert [episode.decisions for episode in experience.episodes] == [4] * 18
    assert torch.isfinite(run.agent.model.norm.mean).all()


def test_given_experience_is_learned_from_before_the_first_decision(tmp_path, monkeypatch):
    steps, update = [], Learner.update

    def watched(self, batch):
        steps.append(run.progress.step)
        return update(self, batch)

    monkeypatch.setattr(Learner, "update", watched)
    run = trainer(tmp_path, replace(OVERLAPPED, first_updates=5, capacity=60))
    run.run(lived)
    assert steps.count(0) == 5
    assert len(steps) == 5 + CONFIG.steps


def test_learning_without_acting_has_nothing_to_overlap_with(tmp_path):
    for overlap in (0, 8):
        config = replace(CONFIG, offline=True, overlap=overlap)
        trainer(tmp_path / str(overlap), config).run(lived)
    assert differences(tmp_path / "0", tmp_path / "8") == []


class Reusing(Point):
    """Gives the same memory for every observation."""

    def _observe(self):
        if not hasattr(self, "memory"):
            self.memory = np.zeros(2, np.float32)
        self.memory[:] = super()._observe()
        return self.memory


def test_an_environment_may_use_its_memory_again(undisturbed, tmp_path):
    trainer(tmp_path, OVERLAPPED, make=Reusing).run()
    assert differences(undisturbed, tmp_path) == []
