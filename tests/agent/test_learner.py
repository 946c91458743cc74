import numpy as np
import pytest
import torch

from agent import Batch, Experience, Learner
from agent.learner import multi_step_targets
from tests.agent.toy import Point, tiny_agent


def test_targets_bootstrap_where_a_sequence_ends_and_not_where_an_episode_terminates():
    rewards = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])
    values = torch.tensor([[10.0] * 3, [20.0] * 3, [40.0] * 3])
    # Whole; terminated at the second decision; cut off after the first.
    terminated = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0]])
    targets = multi_step_targets(rewards, terminated, mask, values, 0.5)
    assert targets[:, 0].tolist() == [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 40)), 2 + 0.5 * (4 + 20), 24]
    assert targets[:2, 1].tolist() == [1 + 0.5 * 2, 2]
    assert targets[0, 2] == 1 + 0.5 * 10
    single = multi_step_targets(rewards, terminated, mask, values, 0.5, single_step=True)
    assert single[:, 0].tolist() == [6, 12, 24]
    assert single[1, 1] == 2


def learner_of(seed: int = 0, can_terminate: bool = True, size: int = 5):
    agent = tiny_agent(size, 2, can_terminate)
    return agent.model, Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(seed))


def random_batch(mask: torch.Tensor | None = None, size: int = 5) -> Batch:
    g = torch.Generator().manual_seed(3)
    return Batch(
        torch.randn(4, 8, size, generator=g),
        torch.rand(3, 8, 2, generator=g) * 2 - 1,
        torch.rand(3, 8, generator=g),
        torch.zeros(3, 8),
        torch.ones(3, 8) if mask is None else mask,
    )


@pytest.mark.parametrize("can_terminate", [True, False])
def test_padding_changes_nothing(can_terminate):
    mask = torch.ones(3, 8)
    mask[1:, :4] = 0
    batch = random_batch(mask)
    noisy = random_batch(mask)
    noisy.observations[2:, :4] += 5
    noisy.actions[1:, :4] *= -1
    noisy.rewards[1:, :4] += 9
    noisy.terminated[1:, :4] = 1
    after = []
    for b in (batch, noisy):
        model, learner = learner_of(can_terminate=can_terminate)
        for _ in range(3):
            learner.update(b)
        after.append([p.clone() for p in model.parameters()])
    for one, two in zip(*after, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_updates_are_reproducible():
    weights = []
    for _ in range(2):
        model, learner = learner_of(7)
        for _ in range(3):
            metrics = learner.update(random_batch())
        assert all(torch.isfinite(x) for x in metrics.values())
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_the_policy_loss_leaves_the_world_model_alone_and_the_other_way_round():
    model, learner = learner_of()
    batch = random_batch()
    policy = [p.clone() for p in model.policy.parameters()]
    rho = torch.tensor([1, 0.5, 0.25, 0.125])
    _, latents = learner._update_world(batch, rho)
    assert all(torch.equal(a, b) for a, b in zip(policy, model.policy.parameters(), strict=True))
    world = [p.clone() for p in learner._world]
    learner._update_policy(latents, rho.unsqueeze(1).expand(-1, 8))
    assert all(torch.equal(a, b) for a, b in zip(world, learner._world, strict=True))


def test_the_target_ensemble_follows_slowly():
    model, learner = learner_of()
    before = [p.clone() for p in learner.target_value.parameters()]
    learner.update(random_batch())
    for old, target, online in zip(before, learner.target_value.parameters(), model.value.parameters(), strict=True):
        torch.testing.assert_close(target, old + 0.01 * (online - old))


def test_the_model_learns_a_world_it_has_seen():
    """Prediction of reward and of the end must become much better than chance on held-out experience."""
    env = Point(can_terminate=True, length=60)
    experience, held_out = Experience(2000, 2, 1), Experience(1000, 2, 1)
    rng = np.random.default_rng(0)
    drift = 0.0
    for buffer, count in ((experience, 2000), (held_out, 1000)):
        observation, _ = env.reset(seed=count)
        for _ in range(count):
            # A drift of its own for each episode carries it to one of the edges.
            action = np.clip(rng.uniform(-1, 1, 1) + drift, -1, 1).astype(np.float32)
            following, reward, terminated, truncated, _ = env.step(action)
            buffer.add(observation, action, reward, following, terminated, truncated)
            observation = following
            if terminated or truncated:
                observation, drift = env.reset()[0], rng.uniform(-0.4, 0.4)
    agent = tiny_agent(2, 1)
    agent.model.norm.update(torch.from_numpy(experience.observations()))
    learner = Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(0))
    for _ in range(900):
        learner.update(experience.sample(64, 3, rng))
    batch = held_out.sample(1000, 3, rng)
    with torch.no_grad():
        imagined = agent.model.imagine(
            agent.model.encode(batch.observations[0]), batch.actions.transpose(0, 1)[:, None]
        )
    mask = batch.mask.T.bool()
    predicted, real = imagined.rewards[:, 0][mask], batch.rewards.T[mask]
    assert ((predicted - real) ** 2).mean() < 0.1 * real.var()
    goes_on, ended = imagined.continues[:, 0][mask], batch.terminated.T[mask].bool()
    assert goes_on[~ended].mean() > 0.9
    assert goes_on[ended].mean() < goes_on[~ended].mean() - 0.3
