"""How the world model, the value ensemble and the policy prior learn from experience.

After TD-MPC2 (arXiv 2310.16828): joint-embedding prediction of latents, rewards and values as two-hot classes over an
unrolled latent trajectory, and a maximum-entropy policy prior trained on the value ensemble. See `agent.losses`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent.config import LearnerConfig
from agent.errors import DivergedError
from agent.experience import Batch
from agent.losses import Lesson, Noise, WorldTerms, policy_loss, world_loss
from agent.optimizers import optimizer_tensors, restore_optimizer
from agent.slow_networks import SlowNetworks
from agent.world_model import WorldModel

POLICY_EPSILON = 1e-5  # of the policy's Adam
DIVERGED = "the losses, their gradients or the critic's targets are NaN or infinite"


@dataclass(frozen=True)
class Learned:
    """What comes of an update.

    Attributes:
        metrics: losses and a few diagnostics.
        errors: how far the values of the sequences' first decisions were from their targets, in units of return.
    """

    metrics: dict[str, Tensor]
    errors: Float[Tensor, " M"]


class Learner:
    """Owns the optimisers, the target networks and the scale of the policy's objective.

    Args:
        model: the world model to train, in place.
        config: losses and rates.
        generator: randomness of the policy's actions, on the model's device.
    """

    def __init__(self, model: WorldModel, config: LearnerConfig, generator: torch.Generator) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.slow = SlowNetworks(model, config.slow_encoder)
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
            policy, lr=rate, weight_decay=config.weight_decay, eps=POLICY_EPSILON, fused=True
        )
        self.value_scale = torch.ones((), device=next(model.parameters()).device)

    def state(self, begun: bool = True) -> dict[str, Tensor]:
        """Everything that the updates to come depend on, beside the model: for `restore`.

        Args:
            begun: whether there has been an update; before, the optimisers hold nothing.

        Returns:
            Tensors by name. They are the learner's own, not copies.
        """
        tensors = {f"slow.{name}": x for name, x in self.slow.state_dict().items()}
        tensors |= optimizer_tensors("world", self.world_optimizer, begun)
        tensors |= optimizer_tensors("policy", self.policy_optimizer, begun)
        return tensors | {"value_scale": self.value_scale, "generator": self.generator.get_state()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from a `state`: the same updates will follow."""
        prefix = "slow."
        self.slow.load_state_dict(
            {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        )
        restore_optimizer("world", self.world_optimizer, tensors)
        restore_optimizer("policy", self.policy_optimizer, tensors)
        self.value_scale.copy_(tensors["value_scale"])
        self.generator.set_state(tensors["generator"].cpu())

    def update(
        self,
        batch: Batch,
        world_loss: Callable[..., WorldTerms] = world_loss,
        policy_loss: Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]] = policy_loss,
    ) -> Learned:
        """One gradient step on a batch.

        Args:
            batch: drawn from experience.
            world_loss: of `agent.losses`, or what was compiled of it.
            policy_loss: likewise.

        Raises:
            DivergedError: when the loss, the critic's targets or a gradient are NaN or infinite; nothing has changed
                then, or, where it is a gradient of the policy, nothing but the rest of the model.
        """
        lesson, noise = self.draw(batch)
        world = world_loss(self.model, self.slow, self.config, lesson, noise)
        if not torch.isfinite(world.loss.detach() + world.targets.sum()):
            raise DivergedError(DIVERGED)
        norm = self._descend(self.world_optimizer, world.loss, self._world)
        loss, scale, diagnostics = policy_loss(self.model, self.config, lesson, world.latents, noise, self.value_scale)
        self._descend(self.policy_optimizer, loss, self._policy)
        self.value_scale.copy_(scale)
        self.slow.follow(self.model, self.config.target_rate)
        more = {"gradient_norm": norm.detach(), "value_scale": scale}
        return Learned(world.metrics | more | diagnostics, world.errors)

    def draw(self, batch: Batch) -> tuple[Lesson, Noise]:
        """What an update depends on beside parameters, with its share of the randomness."""
        lesson = Lesson(batch.observations, batch.actions, batch.rewards, batch.terminated, batch.mask)
        return lesson, self._noise(*batch.rewards.shape)

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """A step against the gradient, whose norm it returns."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        if not torch.isfinite(norm):
            raise DivergedError(DIVERGED)
        optimizer.step()
        return norm

    def _noise(self, length: int, sequences: int) -> Noise:
        def normal(*shape: int) -> Tensor:
            size = *shape, sequences, self.model.action_dim
            return torch.randn(size, generator=self.generator, device=self.value_scale.device)

        heads, members = self.model.config.value_heads, None
        if heads > 2:
            shuffled = torch.randperm(heads, generator=self.generator, device=self.value_scale.device)
            members = shuffled[:2]
        return Noise(normal(length if self.config.returns == "single" else 1), normal(), members)
