"""What the networks learn to make small: pure functions of parameters, a batch and noise.

Nothing here draws a number, changes a tensor in place or looks at a value, so each can be compiled, and mapped over the
stacked parameters of many agents.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from agent.config import LearnerConfig
from agent.slow_networks import SlowNetworks
from agent.world_model import WorldModel


class Lesson(NamedTuple):
    """A batch as the losses see it, T decisions each of M sequences; see `Batch`."""

    observations: Float[Tensor, "T1 M O"]
    actions: Float[Tensor, "T M A"]
    rewards: Float[Tensor, "T M"]
    terminated: Float[Tensor, "T M"]
    mask: Float[Tensor, "T M"]


class Noise(NamedTuple):
    """What of an update is random.

    Attributes:
        target: standard normal deviates of the actions whose value the critic bootstraps from.
        policy: those of the actions that the policy is judged by.
        members: which two of the target ensemble give the smaller value; None where there are no more.
    """

    target: Float[Tensor, "S M A"]
    policy: Float[Tensor, "M A"]
    members: Int[Tensor, "2"] | None


class WorldTerms(NamedTuple):
    """What comes of the world's loss.

    Attributes:
        loss: to be made small.
        latents: of the first observations.
        errors: how far the first decisions' values were from their targets, in units of return.
        targets: of the values.
        metrics: losses by name.
    """

    loss: Float[Tensor, ""]
    latents: Float[Tensor, "M L"]
    errors: Float[Tensor, " M"]
    targets: Float[Tensor, "T M"]
    metrics: dict[str, Tensor]


@torch.no_grad()
def value_targets(
    model: WorldModel,
    slow: SlowNetworks,
    config: LearnerConfig,
    lesson: Lesson,
    latents: Float[Tensor, "T M L"],
    noise: Noise,
) -> Float[Tensor, "T M"]:
    """The critic's targets: rewards up to a bootstrap by the slow ensemble's smaller value of two.

    `latents` are those of the states after each decision.
    """
    single = config.returns == "single"
    if single:
        ends = latents
    else:
        # One bootstrap a sequence, after its last real decision.
        last = (lesson.mask.sum(dim=0).long() - 1).view(1, -1, 1).expand(-1, -1, latents.shape[-1])
        ends = latents.gather(0, last)
    action, _ = model.act(ends, noise.target)
    logits = slow.logits(ends, action)
    if noise.members is not None:
        logits = logits.index_select(0, noise.members)
    values = model.two_hot.decode(logits).amin(dim=0).expand(len(latents), -1)
    return multi_step_targets(lesson.rewards, lesson.terminated, lesson.mask, values, model.discount, single)


def world_loss(
    model: WorldModel, slow: SlowNetworks, config: LearnerConfig, lesson: Lesson, noise: Noise
) -> WorldTerms:
    """Latents, rewards, values and continuation, predicted along an unroll of the latent dynamics."""
    with torch.no_grad():
        next_latents = slow.encode(model, lesson.observations[1:])
    targets = value_targets(model, slow, config, lesson, next_latents, noise)
    z = model.encode(lesson.observations[0])
    latents, reward_logits = [z], []
    for t in range(len(lesson.actions)):
        z, logits = model.step(z, lesson.actions[t])
        latents.append(z)
        reward_logits.append(logits)
    trajectory = torch.stack(latents)

    # A weighted mean over real decisions: later ones of an unroll count less.
    steps = torch.arange(len(lesson.mask), device=lesson.mask.device).unsqueeze(1)
    weight = config.rho**steps * lesson.mask / lesson.mask.sum().clamp(min=1)
    consistency = (weight * ((trajectory[1:] - next_latents) ** 2).mean(dim=-1)).sum()
    rewards = model.two_hot.loss(torch.stack(reward_logits), model.two_hot.encode(lesson.rewards))
    value_logits = model.value_logits(trajectory[:-1], lesson.actions)
    values = model.two_hot.loss(value_logits, model.two_hot.encode(targets).unsqueeze(0)).mean(dim=0)
    reward, value = (weight * rewards).sum(), (weight * values).sum()
    loss = config.consistency_weight * consistency + config.reward_weight * reward + config.value_weight * value
    metrics = {"consistency_loss": consistency, "reward_loss": reward, "value_loss": value}
    if config.contrast_weight:
        told = contrast_loss(trajectory[1:], next_latents, lesson.mask, config.contrast_temperature)
        contrast = (weight * told).sum()
        loss = loss + config.contrast_weight * contrast
        metrics["contrast_loss"] = contrast
    if model.continuation is not None:
        logit = model.continue_logit(trajectory[1:])
        goes_on = F.binary_cross_entropy_with_logits(logit, 1 - lesson.terminated, reduction="none")
        continuation = (weight * goes_on).sum()
        loss = loss + config.continue_weight * continuation
        metrics["continue_loss"] = continuation
    first = model.two_hot.decode(value_logits[:, 0].detach()).mean(dim=0)
    metrics["target_value"] = (lesson.mask * targets).sum() / lesson.mask.sum()
    metrics = {name: x.detach() for name, x in metrics.items()}
    return WorldTerms(loss, trajectory[0].detach(), (first - targets[0]).abs(), targets, metrics)


def policy_loss(
    model: WorldModel,
    config: LearnerConfig,
    lesson: Lesson,
    latents: Float[Tensor, "M L"],
    noise: Noise,
    scale: Tensor,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The policy's objective: a high value, entropy, and nearness to what was done.

    The search with its noise, and not the policy, chooses most of what is lived through. Without the last term the
    policy learns to do what nobody has tried, of which values are overestimated, or nothing, where none has been earned
    yet. With it, where it is of all actions, the policy is held back by what was done when less was known.

    It learns on `latents` (M, L), those of the states that the sequences begin with. `scale`, 1 or more, is what values
    are divided by (DreamerV3, arXiv 2301.04104), and is returned, with the loss and diagnostics, as it follows their
    range.
    """
    action, log_likelihood = model.act(latents, noise.policy)
    value = model.action_value(latents, action, frozen=True)
    scale = torch.lerp(scale, value_range(value.detach()), config.target_rate)
    loss = -(value / scale - config.entropy_weight * log_likelihood).mean()
    metrics = {"entropy": -log_likelihood.detach().mean()}
    if config.imitation_weight:
        distance = model.distance(action, lesson.actions[0])
        if config.imitation_temperature is not None:
            with torch.no_grad():
                lack = (value - model.action_value(latents, lesson.actions[0])).clamp(min=0)
                weight = torch.exp(-lack / (config.imitation_temperature * scale))
            distance = weight * distance
            metrics["imitated"] = weight.mean()
        loss = loss + config.imitation_weight * distance.mean()
    return loss, scale, metrics | {"policy_loss": loss.detach()}


def value_range(value: Float[Tensor, " M"]) -> Float[Tensor, ""]:
    """From the 5th to the 95th percentile, at least 1 (DreamerV3, TD-MPC2)."""
    ordered = value.sort().values
    low, high = ordered[int(0.05 * (len(ordered) - 1))], ordered[int(0.95 * (len(ordered) - 1))]
    return (high - low).clamp(min=1)


def contrast_loss(
    predicted: Float[Tensor, "T M L"], actual: Float[Tensor, "T M L"], mask: Float[Tensor, "T M"], temperature: float
) -> Float[Tensor, "T M"]:
    """InfoNCE: the cross-entropy of finding each actual latent among the real ones of its step by the predicted one.

    Van den Oord et al., Representation Learning with Contrastive Predictive Coding (arXiv 1807.03748).
    """
    similarity = F.normalize(predicted, dim=-1) @ F.normalize(actual, dim=-1).transpose(-1, -2)
    padding = (mask == 0).unsqueeze(-2) & ~torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    similarity = similarity.masked_fill(padding, -torch.inf)
    return -F.log_softmax(similarity / temperature, dim=-1).diagonal(dim1=-2, dim2=-1)


def multi_step_targets(
    rewards: Float[Tensor, "T M"],
    terminated: Float[Tensor, "T M"],
    mask: Float[Tensor, "T M"],
    values: Float[Tensor, "T M"],
    discount: float | Tensor,
    single_step: bool = False,
) -> Float[Tensor, "T M"]:
    """Discounted rewards up to the end of each sequence, and the value of the state there.

    A terminated state is worth nothing; one where the episode was merely cut off, or where the sequence ends, is worth
    `values`. With `single_step`, every decision is bootstrapped from the state right after it.
    """
    targets: list[Tensor] = []
    for t in reversed(range(len(rewards))):
        later = values[t]
        if targets and not single_step:
            later = torch.where(mask[t + 1] > 0, targets[-1], later)
        targets.append(rewards[t] + discount * (1 - terminated[t]) * later)
    return torch.stack(targets[::-1])
