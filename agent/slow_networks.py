"""The networks that targets come from: the learner's own, followed slowly."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agent.world_model import WorldModel


class SlowNetworks(nn.Module):
    """Exponential moving averages of the networks that targets come from.

    Args:
        model: to follow.
        encoder: whether its encoder is followed, too.
    """

    def __init__(self, model: WorldModel, encoder: bool) -> None:
        super().__init__()
        self.value = copy.deepcopy(model.value).requires_grad_(False)
        self.encoder = copy.deepcopy(model.encoder).requires_grad_(False) if encoder else None

    @torch.no_grad()
    def follow(self, model: WorldModel, rate: float) -> None:
        """Moves a little towards the model."""
        parts: list[tuple[nn.Module, nn.Module]] = [(self.value, model.value)]
        if self.encoder is not None:
            parts.append((self.encoder, model.encoder))
        slow: list[Tensor] = [p for mine, _ in parts for p in mine.parameters()]
        fast: list[Tensor] = [p for _, theirs in parts for p in theirs.parameters()]
        torch._foreach_lerp_(slow, fast, rate)

    def encode(self, model: WorldModel, observations: Float[Tensor, "T M O"]) -> Float[Tensor, "T M L"]:
        """Latents that are targets."""
        return (model.encoder if self.encoder is None else self.encoder)(model.observe(observations))

    def logits(self, latent: Float[Tensor, "*S L"], action: Float[Tensor, "*S A"]) -> Float[Tensor, "E *S K"]:
        """Of the value classes."""
        x = torch.cat([latent, action], dim=-1)
        return self.value(x.flatten(0, -2)).unflatten(1, x.shape[:-1])
