from dataclasses import replace

import numpy as np
import pytest
import torch

from agent import Batch, DivergedError, Experience, Learner
from agent.losses import (
    Lesson,
    Noise,
    contrast_loss,
    multi_step_targets,
    policy_loss,
    value_range,
    value_targets,
    world_loss,
)
from tests.agent.toy import Point, shake, tiny_agent


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


def learner_of(seed: int = 0, can_terminate: bool = True, size: int = 5, **changes):
    agent = tiny_agent(size, 2, can_terminate)
    config = replace(agent.config.learner, **changes)
    return agent.model, Learner(agent.model, config, torch.Generator().manual_seed(seed))


def random_batch(mask: torch.Tensor | None = None, size: int = 5) -> Batch:
    g = torch.Generator().manual_seed(3)
    return Batch(
        torch.randn(4, 8, size, generator=g),
        torch.rand(3, 8, 2, generator=g) * 2 - 1,
        torch.rand(3, 8, generator=g),
        torch.zeros(3, 8),
        torch.ones(3, 8) if mask is None else mask,
        np.arange(8),
        np.full(8, 1 / 8),
    )


def lesson_of(batch: Batch) -> Lesson:
    return Lesson(batch.observations, batch.actions, batch.rewards, batch.terminated, batch.mask)


def learn_policy(learner: Learner, latents: torch.Tensor) -> tuple[dict, dict]:
    """Two hundred steps of the policy alone; the first and the last diagnostics."""
    seen = []
    for _ in range(200):
        loss, _, metrics = policy_loss(
            learner.model, learner.config, lesson_of(random_batch()), latents, learner._noise(3, 8), torch.ones(())
        )
        learner._descend(learner.policy_optimizer, loss, learner._policy)
        seen.append(metrics)
    return seen[0], seen[-1]


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
            learned = learner.update(random_batch())
        assert all(torch.isfinite(x) for x in learned.metrics.values())
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_the_policy_loss_leaves_the_world_model_alone_and_the_other_way_round():
    model, learner = learner_of()
    batch = random_batch()
    shake(model)
    noise = learner._noise(3, 8)
    world = world_loss(model, learner.slow, learner.config, lesson_of(batch), noise)
    world.loss.backward()
    assert all(p.grad is None for p in model.policy.parameters())
    assert all(p.grad is not None for p in learner._world)
    model.zero_grad(set_to_none=True)
    policy_loss(model, learner.config, lesson_of(batch), world.latents, noise, torch.ones(()))[0].backward()
    assert all(p.grad is not None for p in model.policy.parameters())
    assert all(p.grad is None for p in learner._world)


def test_the_target_networks_follow_slowly():
    model, learner = learner_of()
    slow = lambda: [*learner.slow.value.parameters(), *learner.slow.encoder.parameters()]  # noqa: E731
    before = [p.clone() for p in slow()]
    learner.update(random_batch())
    now = [*model.value.parameters(), *model.encoder.parameters()]
    for old, target, online in zip(before, slow(), now, strict=True):
        torch.testing.assert_close(target, old + 0.01 * (online - old))


def test_without_a_slow_encoder_targets_come_from_the_one_that_learns():
    model, learner = learner_of(slow_encoder=False)
    observations = random_batch().observations
    shake(model)
    torch.testing.assert_close(learner.slow.encode(model, observations), model.encode(observations))
    _, learner = learner_of()
    shake(learner.slow.encoder, std=0.9)
    assert not torch.allclose(learner.slow.encode(model, observations), model.encode(observations))


def test_a_latent_is_told_from_the_others_of_its_step_and_not_from_padding():
    predicted, actual = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 1]])
    found = contrast_loss(predicted, actual, mask, 0.5)
    cosine = torch.nn.functional.cosine_similarity
    for t, others in ((0, [0, 1, 2]), (1, [0, 2])):
        for m in others:
            logits = torch.stack([cosine(predicted[t, m], actual[t, o], dim=0) for o in others]) / 0.5
            expected = -torch.log_softmax(logits, dim=0)[others.index(m)]
            torch.testing.assert_close(found[t, m], expected)


def test_errors_are_how_far_first_values_were_from_their_targets():
    model, learner = learner_of()
    shake(model)
    batch = random_batch()
    world = world_loss(model, learner.slow, learner.config, lesson_of(batch), learner._noise(3, 8))
    logits = model.value_logits(model.encode(batch.observations[0]), batch.actions[0])
    values = model.two_hot.decode(logits).mean(dim=0)
    torch.testing.assert_close(world.errors, (values - world.targets[0]).abs())
    assert world.errors.min() > 0


@pytest.mark.parametrize("returns", ["multi", "single"])
def test_targets_are_the_smaller_value_of_the_target_ensemble(returns):
    """By hand, for a policy without noise: rewards, and the value of the last real state."""
    model, learner = learner_of(returns=returns)
    shake(model)
    shake(learner.slow.value, std=0.5)  # unlike the online ensemble
    noise = Noise(torch.zeros(3 if returns == "single" else 1, 8, 2), torch.zeros(8, 2), None)
    mask = torch.ones(3, 8)
    mask[2, :4] = 0
    batch = random_batch(mask)
    with torch.no_grad():
        latents = model.encode(batch.observations[1:])
        action, _ = model.act(latents)
        heads = model.two_hot.decode(learner.slow.logits(latents, action))
        assert (heads[0] - heads[1]).abs().min() > 1e-4
        values = torch.minimum(heads[0], heads[1])
        found = value_targets(model, learner.slow, learner.config, lesson_of(batch), latents, noise)
    gamma, r = model.discount, batch.rewards
    if returns == "single":
        expected = r + gamma * values
    else:
        short = torch.stack([r[0] + gamma * (r[1] + gamma * values[1]), r[1] + gamma * values[1], r[2]])
        whole = r[0] + gamma * (r[1] + gamma * (r[2] + gamma * values[2]))
        whole = torch.stack([whole, r[1] + gamma * (r[2] + gamma * values[2]), r[2] + gamma * values[2]])
        expected = torch.where(mask[2] > 0, whole, short)
    real = mask > 0
    torch.testing.assert_close(found[real], expected[real])


def test_decisions_of_no_weight_change_nothing():
    """With rho at zero only the first decision of a sequence counts."""
    batch, other = random_batch(), random_batch()
    other.observations[2:] += 5
    other.actions[1:] *= -1
    other.rewards[1:] += 9
    after = []
    for b in (batch, other):
        model, learner = learner_of(rho=0.0, returns="single")
        learner.update(b)
        after.append([p.clone() for p in model.parameters()])
    for one, two in zip(*after, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_the_critic_and_the_dynamics_fit_what_they_are_shown():
    """Every decision ends its episode here, so that its reward is all it is worth."""
    model, learner = learner_of()
    batch = random_batch()
    batch.terminated[:] = 1
    batch.rewards[:] = 5 * batch.rewards
    first = learner.update(batch).metrics
    for _ in range(400):
        last = learner.update(batch).metrics
    latents = [model.encode(batch.observations[0])]
    for t in range(3):
        latents.append(model.next_latent(latents[-1], batch.actions[t]))
    values = model.two_hot.decode(model.value_logits(torch.stack(latents[:-1]), batch.actions))
    assert (values[:, 0] - batch.rewards[0]).abs().mean() < 0.3 * batch.rewards[0].std()
    assert last["consistency_loss"] < 0.3 * first["consistency_loss"]
    assert last["reward_loss"] < 0.6 * first["reward_loss"]


def test_the_policy_climbs_the_critic():
    model, learner = learner_of()
    shake(model)
    latents = model.encode(random_batch().observations[0]).detach()

    def value() -> torch.Tensor:
        return model.two_hot.decode(model.value_logits(latents, model.act(latents)[0])).mean()

    before = value()
    learn_policy(learner, latents)
    assert value() > before + 0.1 * before.abs()


def test_the_policy_comes_near_the_actions_taken_where_that_is_wanted():
    model, learner = learner_of(imitation_weight=10.0, imitation_temperature=None)
    batch = random_batch()
    latents = model.encode(batch.observations[0]).detach()

    def distance() -> torch.Tensor:
        return ((model.act(latents)[0] - batch.actions[0]) ** 2).mean()

    before = distance()
    learn_policy(learner, latents)
    assert distance() < 0.5 * before


def test_the_policy_imitates_nothing_of_which_the_critic_expects_less():
    model, learner = learner_of()
    batch, noise = random_batch(), learner._noise(3, 8)

    def loss_of(weight: float, temperature: float | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        config = replace(learner.config, imitation_weight=weight, imitation_temperature=temperature)
        loss, _, metrics = policy_loss(model, config, lesson_of(batch), latents, noise, torch.ones(()))
        return loss, metrics

    # At first the critic expects as much of all actions.
    latents = model.encode(batch.observations[0]).detach()
    loss, metrics = loss_of(1.0, 1e-3)
    torch.testing.assert_close(loss, loss_of(1.0, None)[0])
    assert metrics["imitated"] == 1
    shake(model, std=3.0)
    latents = model.encode(batch.observations[0]).detach()
    own = model.act(latents, noise.policy)[0]
    better = model.action_value(latents, batch.actions[0]) > model.action_value(latents, own)
    assert 0 < better.sum() < 8
    loss, metrics = loss_of(1.0, 1e-9)
    assert metrics["imitated"] == better.float().mean()
    added = (better * model.distance(own, batch.actions[0])).mean()
    torch.testing.assert_close(loss - loss_of(0.0, 1e-9)[0], added, rtol=1e-4, atol=1e-5)


def test_the_scale_follows_the_spread_of_the_values_but_not_below_one():
    assert value_range(torch.arange(101.0)) == 90
    assert value_range(torch.zeros(100)) == 1
    model, learner = learner_of()
    shake(model, std=3.0)
    batch = random_batch()
    learner._noise = lambda *_: Noise(torch.zeros(1, 8, 2), torch.zeros(8, 2), None)
    with torch.no_grad():
        latents = model.encode(batch.observations[0])
        _, scale, _ = policy_loss(
            model, learner.config, lesson_of(batch), latents, learner._noise(), learner.value_scale
        )
        wide = value_range(model.two_hot.decode(model.value_logits(latents, model.act(latents)[0])).mean(dim=0))
    assert wide > 1.5
    torch.testing.assert_close(scale, 1 + 0.01 * (wide - 1))
    assert learner.value_scale == 1
    learner.update(batch)
    assert learner.value_scale > 1


def test_where_nothing_is_to_be_gained_the_policy_stays_random():
    model, learner = learner_of(entropy_weight=1.0)  # an untrained critic says zero everywhere
    latents = model.encode(random_batch().observations[0]).detach()
    first, last = learn_policy(learner, latents)
    assert last["entropy"] > first["entropy"] + 0.2


def test_targets_that_are_not_finite_are_refused():
    model, learner = learner_of()
    with torch.no_grad():
        model.encoder[0].weight[0] = float("nan")
    with pytest.raises(DivergedError, match="targets"):
        learner.update(random_batch())


def test_a_gradient_that_is_not_finite_is_refused():
    model, learner = learner_of()
    with torch.no_grad():
        model.reward[-1].weight.fill_(1e30)  # all classes alike: a loss like any other, of which the slope overflows
    before, batch = [p.clone() for p in model.parameters()], random_batch()
    assert torch.isfinite(world_loss(model, learner.slow, learner.config, *learner.draw(batch)).loss)
    with pytest.raises(DivergedError, match="gradients"):
        learner.update(batch)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_the_model_learns_a_world_it_has_seen(tmp_path):
    """Prediction of reward and of the end must become much better than chance on held-out experience."""
    env = Point(can_terminate=True, length=60)
    experience, held_out = Experience(tmp_path / "seen"), Experience(tmp_path / "held out")
    rng = np.random.default_rng(0)
    drift = 0.0
    for buffer, count in ((experience, 2000), (held_out, 1000)):
        buffer.begin(env.reset(seed=count)[0], task="toy")
        for _ in range(count):
            # A drift of its own for each episode carries it to one of the edges.
            action = np.clip(rng.uniform(-1, 1, 1) + drift, -1, 1).astype(np.float32)
            following, reward, terminated, truncated, _ = env.step(action)
            buffer.add(action, reward, following, terminated, truncated)
            if terminated or truncated:
                buffer.begin(env.reset()[0], task="toy")
                drift = rng.uniform(-0.4, 0.4)
    agent = tiny_agent(2, 1)
    agent.model.norm.update(experience.sample(2000, 1, rng).observations[0])
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
