"""The parts that the world model is built of."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SimplicialNorm(nn.Module):
    """Simplicial normalisation: the latent as groups that each sum to one.

    Keeps a latent bounded and sparse without a reconstruction loss (Lavoie et al., Simplicial Embeddings, arXiv
    2204.00616). Group g holds elements g, g + G, g + 2G, ...: a softmax over a strided dimension is some twenty times
    faster on a CPU than one over eight neighbours, and which elements form a group makes no difference.
    """

    def __init__(self, simplex_dim: int) -> None:
        super().__init__()
        self.simplex_dim = simplex_dim

    def forward(self, x: Float[Tensor, "*S L"]) -> Float[Tensor, "*S L"]:
        """Softmax within each group."""
        return torch.softmax(x.unflatten(-1, (self.simplex_dim, -1)), dim=-2).flatten(-2)


def mlp(inputs: int, hidden: list[int], outputs: int, final: nn.Module | None = None) -> nn.Sequential:
    """Linear, LayerNorm and SiLU for each hidden layer, then a linear output.

    Where `final` is given, the output is layer-normalised too and passed through it. SiLU stands in for TD-MPC2's
    Mish: the same shape at a fraction of its time on a CPU.
    """
    layers: list[nn.Module] = []
    sizes = [inputs, *hidden]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU()]
    layers.append(nn.Linear(sizes[-1], outputs))
    if final is not None:
        layers += [nn.LayerNorm(outputs), final]
    network = nn.Sequential(*layers)
    network.apply(_initialise)
    return network


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class EnsembleMLP(nn.Module):
    """`E` MLPs with two hidden layers, evaluated together as batched matrix products.

    The output layer begins at zero, so that the first predictions carry no noise.
    """

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, hidden, hidden, outputs]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.scales = nn.ParameterList()
        self.shifts = nn.ParameterList()
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            weight = torch.zeros(members, before, after)
            if i < 2:
                nn.init.trunc_normal_(weight, std=0.02)
                self.scales.append(nn.Parameter(torch.ones(members, 1, after)))
                self.shifts.append(nn.Parameter(torch.zeros(members, 1, after)))
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, after)))

    def forward(self, x: Float[Tensor, "M I"], frozen: bool = False) -> Float[Tensor, "E M O"]:
        """Every member's output for every row. `frozen` passes gradients to `x` but not to the parameters."""
        h = x.unsqueeze(0).expand(self.weights[0].shape[0], -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            h = torch.baddbmm(bias, h, weight)
            if i < len(self.scales):
                scale, shift = self.scales[i], self.shifts[i]
                if frozen:
                    scale, shift = scale.detach(), shift.detach()
                # Member by member, since a scale that is part of LayerNorm costs half of one that comes after it.
                parts = zip(h.unbind(), scale.squeeze(1).unbind(), shift.squeeze(1).unbind(), strict=True)
                h = torch.stack([F.silu(F.layer_norm(x, x.shape[-1:], a, b)) for x, a, b in parts])
        return h


class ObservationNorm(nn.Module):
    """Running mean and standard deviation of the observations, and their use.

    The statistics count every observation taken in with the same weight (Chan et al.'s parallel update of Welford's
    method), so they move ever more slowly.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, observations: Float[Tensor, "M O"]) -> None:
        """Takes in more observations."""
        n = observations.shape[0]
        mean, var = observations.mean(dim=0), observations.var(dim=0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        spread = self.var * self.count + var * n + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.var.copy_(spread / total)
        self.count.copy_(total)

    def forward(self, observations: Float[Tensor, "*S O"]) -> Float[Tensor, "*S O"]:
        """Normalised and clipped. An element that has hardly moved so far is not blown up."""
        return ((observations - self.mean) / (self.var.sqrt() + 1e-2)).clamp(-self.clip, self.clip)
