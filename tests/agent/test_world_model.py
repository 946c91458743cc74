import math

import pytest
import torch

from agent import ConfigError, ModelConfig, PlanningConfig, WorldModel
from agent.config import Bootstrap
from tests.agent.toy import shake


def model_of(can_terminate: bool = True) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(ModelConfig(latent_dim=16, hidden_dim=24, encoder_dim=24), 5, 2, 0.9, can_terminate)
    return shake(model).requires_grad_(False)


def searching(bootstrap: Bootstrap, pessimism: float = 0.0) -> PlanningConfig:
    return PlanningConfig(bootstrap=bootstrap, pessimism=pessimism)


@pytest.mark.parametrize("can_terminate", [True, False])
def test_imagination_is_the_model_step_by_step(can_terminate):
    model = model_of(can_terminate)
    latent, actions = model.encode(torch.randn(2, 5)), torch.rand(2, 4, 3, 2) * 2 - 1
    imagined = model.imagine(latent, actions)
    assert imagined.latents.shape == (2, 4, 4, 16)
    assert imagined.rewards.shape == imagined.continues.shape == (2, 4, 3)
    z = latent[1]
    for t in range(3):
        a = actions[1, 2, t]
        torch.testing.assert_close(imagined.latents[1, 2, t], z)
        torch.testing.assert_close(imagined.rewards[1, 2, t], model.two_hot.decode(model.step(z, a)[1]))
        torch.testing.assert_close(model.step(z, a)[0], model.next_latent(z, a))
        z = model.next_latent(z, a)
        goes_on = torch.sigmoid(model.continue_logit(z)) if can_terminate else torch.ones(())
        torch.testing.assert_close(imagined.continues[1, 2, t], goes_on)


def test_a_full_turn_of_an_endless_joint_changes_nothing():
    model = WorldModel(ModelConfig(latent_dim=16, hidden_dim=24, encoder_dim=24), 5, 2, 0.9, angles=(1, 3))
    observation = torch.randn(6, 5)
    model.norm.update(observation * 4)
    turned = observation + torch.tensor([0, 2 * math.pi, 0, -6 * math.pi, 0])
    seen = model.observe(observation)
    assert seen.shape == (6, 7)
    torch.testing.assert_close(model.observe(turned), seen, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.atan2(seen[:, 3:5], seen[:, 5:]), observation[:, [1, 3]], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[:, :3], model.norm(observation)[:, [0, 2, 4]])


@pytest.mark.parametrize("angles", [(5,), (-1,), (1, 0), (0, 0)])
def test_angles_must_be_elements_of_the_observation(angles):
    with pytest.raises(ConfigError, match="angles"):
        WorldModel(ModelConfig(), 5, 2, 0.9, angles=angles)


@pytest.mark.parametrize("can_terminate", [True, False])
def test_the_score_is_rewards_and_terminal_value_while_the_episode_lasts(can_terminate):
    model = model_of(can_terminate)
    latent, actions = model.encode(torch.randn(2, 5)), torch.rand(2, 4, 3, 2) * 2 - 1
    imagined = model.imagine(latent, actions)
    expected, alive = torch.zeros(2, 4), torch.ones(2, 4)
    for t in range(3):
        expected += alive * imagined.rewards[:, :, t]
        alive *= 0.9 * imagined.continues[:, :, t]
    final = imagined.latents[:, :, -1]
    expected += alive * model.two_hot.decode(model.value_logits(final, model.act(final)[0])).mean(0)
    torch.testing.assert_close(model.score(latent, searching("last"))(actions), expected)


@pytest.mark.parametrize("can_terminate", [True, False])
def test_the_mean_over_depths_is_that_of_shorter_horizons(can_terminate):
    model = model_of(can_terminate)
    latent, actions = model.encode(torch.randn(2, 5)), torch.rand(2, 4, 3, 2) * 2 - 1
    each = [model.score(latent, searching("last"))(actions[:, :, :depth]) for depth in (1, 2, 3)]
    torch.testing.assert_close(model.score(latent, searching("mean"))(actions), torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("can_terminate", [True, False])
def test_values_of_own_actions_are_asked_for_at_every_depth_where_there_is_one(can_terminate):
    model = model_of(can_terminate)
    latent, actions = model.encode(torch.randn(2, 5)), torch.rand(2, 4, 3, 2) * 2 - 1
    imagined = model.imagine(latent, actions)
    following = torch.cat([actions, model.act(imagined.latents[:, :, -1:])[0]], dim=2)
    earned, alive, each = torch.zeros(2, 4), torch.ones(2, 4), []
    for t in range(4):
        state, action = imagined.latents[:, :, t], following[:, :, t]
        each.append(earned + alive * model.two_hot.decode(model.value_logits(state, action)).mean(0))
        if t < 3:
            earned = earned + alive * imagined.rewards[:, :, t]
            alive = alive * 0.9 * imagined.continues[:, :, t]
    torch.testing.assert_close(model.score(latent, searching("own"))(actions), torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("bootstrap", ["last", "mean", "own"])
def test_pessimism_is_between_the_mean_of_the_ensemble_and_its_smallest_value(bootstrap):
    model = model_of()
    latent, actions = model.encode(torch.randn(2, 5)), torch.rand(2, 4, 1, 2) * 2 - 1
    neutral, half, full = (model.score(latent, searching(bootstrap, pessimism=x))(actions) for x in (0.0, 0.5, 1.0))
    assert (full < neutral).all()
    torch.testing.assert_close(half, (neutral + full) / 2)
    # One decision ahead: what is lost is the spread of the ensemble, wherever a value is asked for.
    state = model.next_latent(latent.unsqueeze(1).expand(-1, 4, -1), actions[:, :, 0])
    members = model.two_hot.decode(model.value_logits(state, model.act(state)[0]))
    lost = 0.9 * model.imagine(latent, actions).continues[:, :, 0] * (members.mean(0) - members.amin(0))
    if bootstrap == "own":
        now = latent.unsqueeze(1).expand(-1, 4, -1)
        members = model.two_hot.decode(model.value_logits(now, actions[:, :, 0]))
        lost = (lost + members.mean(0) - members.amin(0)) / 2
    torch.testing.assert_close(neutral - full, lost)


@pytest.mark.parametrize("head", ["own", "shared"])
def test_either_reward_head_imagines(head):
    config = ModelConfig(latent_dim=16, hidden_dim=24, encoder_dim=24, reward_head=head)
    model = shake(WorldModel(config, 5, 2, 0.9)).requires_grad_(False)
    latent = model.encode(torch.randn(2, 5))
    torch.testing.assert_close(latent.unflatten(-1, (8, -1)).sum(dim=1), torch.ones(2, 2))
    imagined = model.imagine(latent, torch.rand(2, 4, 3, 2) * 2 - 1)
    assert imagined.rewards.std() > 0
    assert imagined.latents.std(dim=(0, 1)).min() > 0


def test_the_policy_is_a_squashed_normal():
    model = model_of()
    latent, noise = model.encode(torch.randn(6, 5)), torch.randn(6, 2)
    action, log_likelihood = model.act(latent, noise)
    assert action.abs().max() <= 1
    mean, log_std = model.policy(latent).chunk(2, dim=-1)
    std = (-10 + 6 * (torch.tanh(log_std) + 1)).exp()
    normal = torch.distributions.Normal(mean, std)
    squashed = torch.distributions.TransformedDistribution(normal, [torch.distributions.TanhTransform(cache_size=1)])
    expected = squashed.log_prob(torch.tanh(mean + std * noise)).sum(-1)
    usable = action.abs().amax(-1) < 0.999  # the reference loses its digits at the edge
    torch.testing.assert_close(log_likelihood[usable], expected[usable], rtol=1e-2, atol=1e-2)


def test_the_first_proposal_is_the_most_likely_one():
    model = model_of()
    latent = model.encode(torch.randn(2, 5))
    proposals = model.follow_policy(latent, model.proposal_noise(3, 4, torch.Generator().manual_seed(0)))
    assert proposals.shape == (2, 3, 4, 2)
    torch.testing.assert_close(proposals[:, 0, 0], model.act(latent)[0])
    assert not torch.equal(proposals[:, 1], proposals[:, 0])
