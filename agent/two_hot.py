"""Two-hot symlog regression: a scalar as a distribution over fixed bins.

Regressing rewards and values as classes makes one loss weight fit tasks of every scale (Hafner et al., Mastering
Diverse Domains through World Models, arXiv 2301.04104).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def symlog(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """sign(x) log(1 + |x|)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """The inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


class TwoHot(nn.Module):
    """Turns scalars into class probabilities over bins that are even in symlog space, and back."""

    bins: Tensor
    places: Tensor

    def __init__(self, bins: int, bin_range: float) -> None:
        super().__init__()
        self.bin_range = bin_range
        self.step = 2 * bin_range / (bins - 1)
        self.register_buffer("bins", torch.linspace(-bin_range, bin_range, bins, device="cpu"), persistent=False)
        self.register_buffer("places", torch.arange(bins, dtype=torch.float32, device="cpu"), persistent=False)

    def encode(self, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S K"]:
        """Class probabilities: all on the two bins next to symlog(x), shared by distance."""
        position = (symlog(x).clamp(-self.bin_range, self.bin_range) + self.bin_range) / self.step
        # A triangle of two bins' width around the position: no index, so it can be mapped over agents.
        return (1 - (position.unsqueeze(-1) - self.places).abs()).clamp(min=0)

    def decode(self, logits: Float[Tensor, "*S K"]) -> Float[Tensor, "*S"]:
        """The scalar that a head's logits stand for: symexp of the expected bin."""
        return symexp(torch.softmax(logits, dim=-1) @ self.bins)

    def loss(self, logits: Float[Tensor, "*#S K"], target: Float[Tensor, "*#S K"]) -> Float[Tensor, "..."]:
        """Cross-entropy between a head's logits and class probabilities from `encode`."""
        return -(target * F.log_softmax(logits, dim=-1)).sum(dim=-1)
