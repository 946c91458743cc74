"""How the world model, the value ensemble and the policy prior learn from experience.

After TD-MPC2 (arXiv 2310.16828): joint-embedding prediction of latents, rewards and values as two-hot classes over an
unrolled latent trajectory, and a maximum-entropy policy prior trained on the value ensemble.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from agent.config import LearnerConfig
from agent.errors import DivergedError
from agent.experience import Batch
from agent.optimizers import optimizer_tensors, restore_optimizer
from agent.world_model import WorldModel


class Learner:
    """Owns the optimisers, the target ensemble and the scale of the policy's objective.

    Args:
        model: the world model to train, in place.
        config: losses and rates.
        generator: randomness of the policy's actions, on the model's device.
    """

    def __init__(self, model: WorldModel, config: LearnerConfig, generator: torch.Generator) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.target_value = copy.deepcopy(model.value).requires_grad_(False)
        policy = list(model.policy.parameters())
        encoder = list(model.encoder.parameters())
        apart = {id(p) for p in policy + encoder}
        rest = [p for p in model.parameters() if id(p) not in apart]
        self._world, self._policy = encoder + rest, policy
        rate = config.learning_rate
        groups: list[dict[str, Any]] = [{"params": encoder, "lr": rate * config.encoder_rate}, {"params": rest}]
        self.world_optimizer = torch.optim.AdamW(
            groups,
            lr=rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.policy_optimizer = torch.optim.AdamW(
            policy, lr=rate, weight_decay=config.weight_decay, eps=1e-5, fused=True
        )
        self.value_scale = torch.ones((), device=next(model.parameters()).device)

    def state(self, begun: bool = True) -> dict[str, Tensor]:
        """Everything that the updates to come depend on, beside the model: for `restore`.

        Args:
            begun: whether there has been an update; before, the optimisers hold nothing.

        Returns:
            Tensors by name. They are the learner's own, not copies.
        """
        tensors = {f"target.{name}": x for name, x in self.target_value.state_dict().items()}
        tensors |= optimizer_tensors("world", self.world_optimizer, begun)
        tensors |= optimizer_tensors("policy", self.policy_optimizer, begun)
        return tensors | {"value_scale": self.value_scale, "generator": self.generator.get_state()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from a `state`: the same updates will follow."""
        prefix = "target."
        self.target_value.load_state_dict(
            {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        )
        restore_optimizer("world", self.world_optimizer, tensors)
        restore_optimizer("policy", self.policy_optimizer, tensors)
        self.value_scale.copy_(tensors["value_scale"])
        self.generator.set_state(tensors["generator"].cpu())

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step on a batch.

        Returns:
            Losses and a few diagnostics, as scalar tensors.

        Raises:
            DivergedError: when the critic's targets are NaN or infinite.
        """
        horizon = batch.actions.shape[0]
        rho = self.config.rho ** torch.arange(horizon + 1, device=batch.actions.device)
        metrics, latents = self._update_world(batch, rho)
        # The states the policy learns on: real ones, each weighing what its decision weighs.
        mask = torch.cat([batch.mask, batch.mask[-1:]])
        metrics |= self._update_policy(latents, rho.unsqueeze(1) * mask)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target_value.parameters()), list(self.model.value.parameters()), self.config.target_rate
            )
        return metrics

    @torch.no_grad()
    def targets(self, batch: Batch, next_latents: Float[Tensor, "T M L"]) -> Float[Tensor, "T M"]:
        """The critic's targets: rewards up to a bootstrap by the target ensemble's smaller value of two."""
        if self.config.returns == "single":
            ends = next_latents
        else:
            # One bootstrap a sequence, after its last real decision.
            last = (batch.mask.sum(dim=0).long() - 1).view(1, -1, 1).expand(-1, -1, next_latents.shape[-1])
            ends = next_latents.gather(0, last)
        action, _ = self.model.act(ends, self._noise(ends))
        logits = self._target_logits(ends, action)
        if len(logits) > 2:
            pick = torch.randperm(len(logits), generator=self.generator, device=logits.device)[:2]
            logits = logits[pick]
        values = self.model.two_hot.decode(logits).amin(dim=0).expand(len(next_latents), -1)
        return multi_step_targets(
            batch.rewards, batch.terminated, batch.mask, values, self.model.discount, self.config.returns == "single"
        )

    def _update_world(self, batch: Batch, rho: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        model, config = self.model, self.config
        with torch.no_grad():
            next_latents = model.encode(batch.observations[1:])
            targets = self.targets(batch, next_latents)
            if not torch.isfinite(targets).all():
                raise DivergedError("the critic's targets are NaN or infinite")
        z = model.encode(batch.observations[0])
        latents = [z]
        for t in range(len(batch.actions)):
            z = model.next_latent(z, batch.actions[t])
            latents.append(z)
        trajectory = torch.stack(latents)

        # A weighted mean over real decisions: later ones of an unroll count less.
        weight = rho[:-1].unsqueeze(1) * batch.mask
        weight = weight / (batch.mask.sum().clamp(min=1))
        consistency = (weight * ((trajectory[1:] - next_latents) ** 2).mean(dim=-1)).sum()
        rewards = model.two_hot.loss(
            model.reward_logits(trajectory[:-1], batch.actions), model.two_hot.encode(batch.rewards)
        )
        values = model.two_hot.loss(
            model.value_logits(trajectory[:-1], batch.actions), model.two_hot.encode(targets).unsqueeze(0)
        ).mean(dim=0)
        reward, value = (weight * rewards).sum(), (weight * values).sum()
        loss = config.consistency_weight * consistency + config.reward_weight * reward + config.value_weight * value
        metrics = {"consistency_loss": consistency, "reward_loss": reward, "value_loss": value}
        if model.continuation is not None:
            logit = model.continue_logit(trajectory[1:])
            goes_on = F.binary_cross_entropy_with_logits(logit, 1 - batch.terminated, reduction="none")
            continuation = (weight * goes_on).sum()
            loss = loss + config.continue_weight * continuation
            metrics["continue_loss"] = continuation
        self.world_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        metrics["gradient_norm"] = torch.nn.utils.clip_grad_norm_(self._world, config.gradient_clip)
        self.world_optimizer.step()
        metrics["target_value"] = (batch.mask * targets).sum() / batch.mask.sum()
        return {name: x.detach() for name, x in metrics.items()}, trajectory.detach()

    def _update_policy(self, latents: Tensor, weight: Tensor) -> dict[str, Tensor]:
        model, config = self.model, self.config
        action, log_likelihood = model.act(latents, self._noise(latents))
        value = model.two_hot.decode(model.value_logits(latents, action, frozen=True)).mean(dim=0)
        with torch.no_grad():
            self._update_scale(value[0])
        loss = -(weight * (value / self.value_scale - config.entropy_weight * log_likelihood)).mean()
        self.policy_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._policy, config.gradient_clip)
        self.policy_optimizer.step()
        return {"policy_loss": loss.detach(), "entropy": -log_likelihood.detach().mean()}

    def _update_scale(self, value: Float[Tensor, "M"]) -> None:
        """Running range of the values, from the 5th to the 95th percentile, at least 1 (DreamerV3, TD-MPC2)."""
        ordered = value.sort().values
        low, high = ordered[int(0.05 * (len(ordered) - 1))], ordered[int(0.95 * (len(ordered) - 1))]
        self.value_scale.lerp_((high - low).clamp(min=1), self.config.target_rate)

    def _target_logits(self, latent: Tensor, action: Tensor) -> Float[Tensor, "E T M K"]:
        x = torch.cat([latent, action], dim=-1)
        return self.target_value(x.flatten(0, -2)).unflatten(1, x.shape[:-1])

    def _noise(self, latents: Tensor) -> Tensor:
        shape = (*latents.shape[:-1], self.model.action_dim)
        return torch.randn(shape, generator=self.generator, device=latents.device)


def multi_step_targets(
    rewards: Float[Tensor, "T M"],
    terminated: Float[Tensor, "T M"],
    mask: Float[Tensor, "T M"],
    values: Float[Tensor, "T M"],
    discount: float,
    single_step: bool = False,
) -> Float[Tensor, "T M"]:
    """Discounted rewards up to the end of each sequence, and the value of the state there.

    A terminated state is worth nothing; one where the episode was merely cut off, or where the sequence ends, is worth
    `values`. With `single_step`, every decision is bootstrapped from the state right after it.
    """
    targets = torch.empty_like(rewards)
    following = values[-1]
    for t in reversed(range(len(rewards))):
        if t + 1 < len(rewards):
            later = values[t] if single_step else torch.where(mask[t + 1] > 0, targets[t + 1], values[t])
        else:
            later = following
        targets[t] = rewards[t] + discount * (1 - terminated[t]) * later
    return targets
