"""World models of many agents as one, their parameters stacked along a leading axis.

Agents of different tasks differ in the sizes of observations and actions. Zeros fill up what is missing: columns of the
weights that observations and actions meet, rows of those that actions come from. What is padded stays zero through
every layer, is masked out of likelihoods, and has no gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from agent.many.padding import stack
from agent.slow_networks import SlowNetworks
from agent.world_model import WorldModel

# What becomes of an element of the observation before the encoder sees it.
_NORMALISED, _SINE, _COSINE = 0.0, 1.0, 2.0


@dataclass(frozen=True)
class Shape:
    """What models that are stacked have in common, the padding included; hashable.

    Attributes:
        config: of the models.
        log_std: range of the policy's.
        can_terminate: whether they have a continuation head.
        inputs: elements that the encoder sees.
        action_dim: elements of an action.
        slow_encoder: whether their learners have one.
    """

    config: Any
    log_std: tuple[float, float]
    can_terminate: bool
    inputs: int
    action_dim: int
    slow_encoder: bool

    @staticmethod
    def of(models: Sequence[WorldModel], slow_encoder: bool = False) -> "Shape":
        """That of models which `alike` says can be stacked."""
        inputs = max(model.observation_dim + len(model.angles) for model in models)
        return Shape(*alike(models[0]), inputs, max(model.action_dim for model in models), slow_encoder)


def alike(model: WorldModel) -> tuple[Any, tuple[float, float], bool]:
    """What must be equal for models to be stacked."""
    return model.config, model.log_std, model.continuation is not None


def seen(model: WorldModel, observation: Float[Tensor, "*S O"]) -> Float[Tensor, "*S I"]:
    """The elements of an observation as the encoder expects them, before anything is computed with them."""
    return observation[..., _order(model)] if model.angles else observation


_parameters: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters by name. They are looked for once: those of ours are only ever changed in place."""
    if module not in _parameters:
        _parameters[module] = dict(module.named_parameters())
    return _parameters[module]


def learned(model: WorldModel) -> dict[str, Tensor]:
    """What of a model is stacked and changes while it learns, by the names it has in a `Template`."""
    mean, var = model.norm.mean, model.norm.var
    if model.angles:
        mean, var = mean[_order(model)], var[_order(model)]
    return parameters(model) | {"norm.mean": mean, "norm.var": var}


def fixed(model: WorldModel) -> dict[str, Tensor]:
    """What of a model is stacked and stays as it is, by the names it has in a `Template`."""
    device, angles = model.norm.mean.device, len(model.angles)
    kind = torch.full((model.observation_dim + angles,), _NORMALISED, device=device)
    if angles:
        kind[-2 * angles : -angles], kind[-angles:] = _SINE, _COSINE
    real = torch.ones(model.action_dim, device=device)
    return {"kind": kind, "discount": torch.tensor(model.discount, device=device), "real": real}


def in_halves(model: WorldModel, name: str) -> bool:
    """Whether a parameter is the policy's output layer, which gives means and then log standard deviations."""
    return name.startswith(f"policy.{len(model.policy) - 1}.")


def stacked(models: Sequence[WorldModel], of: Callable[[WorldModel], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The models' tensors, (n, ...) each, of `learned` or `fixed`."""
    own = [of(model) for model in models]
    return {name: stack([each[name] for each in own], in_halves(models[0], name)) for name in own[0]}


def stacked_parameters(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The parameters of modules of one kind, (n, ...) each."""
    own = [parameters(module) for module in modules]
    return {name: stack([each[name] for each in own]) for name in own[0]}


class _FlatLinear(nn.Linear):
    """A linear layer that sees its input as one matrix.

    Of inputs with more dimensions torch makes as many small products, each with a copy of the weights, where the
    weights are those of many agents.
    """

    def forward(self, x: Float[Tensor, "*S I"]) -> Float[Tensor, "*S O"]:
        if x.ndim == 2:
            return super().forward(x)
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def _flatten_inputs(module: nn.Module) -> None:
    """Replaces all linear layers inside a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, _FlatLinear(child.in_features, child.out_features))
        else:
            _flatten_inputs(child)


class Template(WorldModel):
    """A world model whose own tensors are never used: those of many agents take their place."""

    discount: Any
    kind: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.config, shape.inputs, shape.action_dim, 0.5, shape.can_terminate, shape.log_std)
        del self.discount
        self.register_buffer("discount", torch.zeros(()))
        self.register_buffer("kind", torch.zeros(shape.inputs))
        self.real = torch.ones(shape.action_dim)
        _flatten_inputs(self)

    def observe(self, observation: Float[Tensor, "*S I"]) -> Float[Tensor, "*S I"]:
        """Of elements in the order of `seen`."""
        angles = torch.where(self.kind == _SINE, observation.sin(), observation.cos())
        return torch.where(self.kind == _NORMALISED, self.norm(observation), angles)


class Networks(nn.Module):
    """A template and the slow networks that follow it, to compute with in the place of many agents'."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # building one must not disturb who draws from torch's own generator
            self.model = Template(shape)
        self.slow = SlowNetworks(self.model, shape.slow_encoder)
        self.requires_grad_(False)

    def forward(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function(model, slow, *args)` returns."""
        return function(self.model, self.slow, *args)

    def for_each(self, tensors: dict[str, Tensor], function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function for every agent at once.

        Args:
            tensors: (n, ...) that take the place of the networks' own, by name.
            function: takes a `WorldModel`, its `SlowNetworks`, and one agent's share of each argument. It must be
                pure.
            args: tensors (n, ...) or tuples of those.

        Returns:
            What the function returns, every tensor with a leading n.
        """

        def one(tensors: dict[str, Tensor], *args: Any) -> Any:
            return functional_call(self, tensors, (function, *args))

        return torch.vmap(one)(tensors, *args)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under longer names."""
    return {f"{prefix}{name}": x for name, x in tensors.items()}


def _order(model: WorldModel) -> list[int]:
    """Which element of the observation each input of the encoder is of; see `WorldModel.observe`."""
    others = [i for i in range(model.observation_dim) if i not in model.angles]
    return [*others, *model.angles, *model.angles]
