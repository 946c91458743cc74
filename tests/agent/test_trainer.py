import json
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agent import Agent, AgentInfo, ConfigError, DivergedError, Experience, Learner, TrainConfig, Trainer, preset
from agent.config import LearnerConfig, from_dict, to_dict
from tests.agent.toy import Point

SHORT = replace(
    preset("tiny"),
    updates_per_decision=1,
    steps=120,
    random_steps=40,
    evaluate_every=60,
    evaluation_episodes=2,
    final_episodes=3,
    device="cpu",
)


def trained(folder, config=SHORT, env=None, can_terminate=False, **kwargs):
    make = env or Point
    info = AgentInfo("point", 1, 20, can_terminate)
    trainer = Trainer(make(), make(), config, info, folder, **kwargs)
    return trainer, trainer.run()


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_checkpoint_and_its_logs(tmp_path):
    seen = []
    trainer, results = trained(tmp_path, on_progress=lambda p: seen.append((p.step, p.phase)))
    kinds = [r["kind"] for r in records(tmp_path)]
    assert kinds.count("episode") == 6
    assert kinds.count("evaluation") == 1
    assert kinds.count("final") == 2
    assert trainer._counts.updates == 120  # those of the random decisions are made up for
    assert {"evaluate", "collect"} <= {phase for _, phase in seen}
    assert list((tmp_path / "tensorboard").glob("events*"))
    agent = Agent.load(tmp_path)
    assert agent.info.training["steps"] == 120
    final = [r for r in records(tmp_path) if r["kind"] == "final"]
    assert [r["planner"] for r in final] == ["mppi", "policy"]
    assert final[0]["seeds"] == [10_000, 10_001, 10_002]
    assert results["planner"].mean_return == pytest.approx(final[0]["mean_return"], rel=1e-4)


def test_the_same_seed_trains_the_same_agent(tmp_path):
    agents = []
    for name in "ab":
        torch.manual_seed(hash(name) % 1000)  # global randomness plays no part
        trained(tmp_path / name)
        agents.append(Agent.load(tmp_path / name).model.state_dict())
    assert all(torch.equal(agents[0][key], agents[1][key]) for key in agents[0])


def test_evaluating_more_often_does_not_change_what_is_learned(tmp_path):
    weights = []
    for every in (0, 20):
        trained(tmp_path / str(every), replace(SHORT, evaluate_every=every))
        weights.append(Agent.load(tmp_path / str(every)).model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_it_learns_to_reach_the_middle(tmp_path):
    config = replace(SHORT, steps=1000, random_steps=200, evaluate_every=0, final_episodes=10)
    _, results = trained(tmp_path, config, can_terminate=True, env=lambda: Point(can_terminate=True))
    random = Point()
    rng, floor = np.random.default_rng(0), []
    for seed in range(10):
        random.reset(seed=seed)
        floor.append(sum(random.step(rng.uniform(-1, 1, 1))[1] for _ in range(20)))
    # 20 decisions with a reward of at most 1 each, a few of them spent on the way.
    assert results["planner"].mean_return > 15
    assert results["planner"].mean_return > np.mean(floor) + 5
    assert results["policy"].mean_return > 12  # nothing but the critic teaches it


class Diverging(Point):
    """Reports at its fifth decision that the physics diverged."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.t == 5:
            return observation * np.nan, np.nan, False, True, {"unstable": True}
        return observation, reward, terminated, truncated, info


def test_a_diverged_simulation_is_counted_but_not_learned_from(tmp_path):
    trainer, results = trained(tmp_path, env=Diverging)
    assert all(results["planner"].unstable)
    assert np.isfinite(results["planner"].mean_return)
    assert all(r["unstable"] for r in records(tmp_path) if r["kind"] == "episode")
    with Experience(tmp_path / "experience", read_only=True) as experience:
        assert len(experience) == 120 * 4 // 5
        assert [episode.decisions for episode in experience.episodes] == [4] * 24
        assert not any(episode.terminated or episode.truncated for episode in experience.episodes)
    assert torch.isfinite(trainer.agent.model.norm.mean).all()


def test_training_that_diverges_says_so_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real, calls = Learner.update, iter(range(1000))

    def update(self, batch):
        if next(calls) == 80:  # after the evaluation, which saves, at step 60
            with torch.no_grad():
                self.model.encoder[0].weight[0] = float("nan")
        return real(self, batch)

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(DivergedError, match=r"diverged at step \d+: .*; try a lower --learner.learning-rate"):
        trained(tmp_path)
    assert Agent.load(tmp_path).info.training["steps"] == 60


class Pixels(Point):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Discrete(Point):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Discrete(2)


class Wide(Point):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-3, 3, (1,), np.float32)


@pytest.mark.parametrize(("env", "said"), [(Pixels, "flat Box"), (Discrete, "flat Box"), (Wide, r"\[-1, 1\]")])
def test_environments_it_cannot_train_in(tmp_path, env, said):
    with pytest.raises(ConfigError, match=said):
        trained(tmp_path, env=env)


def test_a_plain_gymnasium_environment_will_do(tmp_path):
    """The agent asks nothing of an environment beyond Gymnasium's own interface."""

    def plain() -> gymnasium.Env:
        class Plain(Point):
            def step(self, action):
                observation, reward, terminated, truncated, _ = super().step(action)
                return observation, reward, np.bool_(terminated), truncated, {}

        return Plain()

    trained(tmp_path, env=plain)


def test_a_return_that_is_no_number_is_told_and_the_run_goes_on(tmp_path):
    class Unrewarding(Point):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    trainer = Trainer(Point(), Unrewarding(), SHORT, AgentInfo("point", 1, 20, False), tmp_path)
    results = trainer.run()
    assert np.isnan(results["planner"].mean_return)
    assert Agent.load(tmp_path).info.training["steps"] == 120


def test_configurations_survive_json_and_unknown_keys_do_not():
    config = preset("base")
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"unknown setting 'learner.batchsize'; did you mean 'batch_size'"):
        from_dict(TrainConfig, {"learner": {"batchsize": 3}})
    for bad in ({"steps": "many"}, {"steps": True}, {"learner": {"rho": float("nan")}}, {"learner": 3}, 3):
        with pytest.raises(ConfigError):
            from_dict(TrainConfig, bad)


@pytest.mark.parametrize(("decisions", "discount"), [(500, 0.99), (50, 0.95), (10_000, 0.995), (None, 0.99)])
def test_the_discount_follows_the_length_of_an_episode(decisions, discount):
    assert LearnerConfig().resolve_discount(decisions) == pytest.approx(discount)
    assert LearnerConfig(discount=0.9).resolve_discount(decisions) == 0.9


def lived(experience, decisions=40):
    """Fills a store with random experience."""
    env, rng = Point(), np.random.default_rng(0)
    for seed in range(decisions // 20):
        experience.begin(env.reset(seed=seed)[0], task="point", seed=seed)
        for _ in range(20):
            action = rng.uniform(-1, 1, 1)
            observation, reward, terminated, truncated, _ = env.step(action)
            experience.add(action, reward, observation, terminated, truncated, "random")


@pytest.mark.parametrize("capacity", [1000, 60])
def test_given_experience_is_learned_from_first_and_then_beside_its_own(tmp_path, monkeypatch, capacity):
    real, batches = Learner.update, []

    def update(self, batch):
        batches.append(batch.starts)
        return real(self, batch)

    monkeypatch.setattr(Learner, "update", update)
    config = replace(SHORT, steps=70, evaluate_every=0, final_episodes=1, capacity=capacity, first_updates=5)
    config = replace(config, learner=replace(config.learner, batch_size=16))
    trainer = Trainer(Point(), Point(), config, AgentInfo("point", 1, 20, False), tmp_path)
    trainer.run(lived)
    own = [int((starts >= 40).sum()) for starts in batches]
    assert len(batches) == 5 + 70
    assert own[:5] == [0] * 5
    assert own[5:13] == [1, 2, 3, 4, 5, 6, 7, 8]
    # When all that was given is evicted, only its own is left.
    evicted = 5 + 60 if capacity == 60 else len(own)
    assert set(own[13 : evicted - 1]) == {8}
    assert set(own[evicted:]) <= {16}
    assert trainer.agent.info.training["given"] == 40


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(ConfigError, match="offline needs some"):
        trained(tmp_path / "a", replace(SHORT, offline=True))
    other = Trainer(Point(), Point(), SHORT, AgentInfo("point"), tmp_path / "b")

    def wrong(experience):
        experience.begin([0.0, 0.0, 0.0], task="other")
        experience.add([0.0], 0.0, [0.0, 0.0, 0.0], False, True)

    with pytest.raises(ConfigError, match="experience of other has observations and actions of 3 and 1"):
        other.run(wrong)
