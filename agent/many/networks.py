"""World models of many agents as one, their parameters stacked along a leading axis.

Agents of different tasks differ in the sizes of observations and actions. Zeros fill up what is missing: columns of the
weights that observations and actions meet, rows of those that actions come from. What is padded stays zero through
every layer, is masked out of likelihoods, and has no gradient.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

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
    def of(model: WorldModel, slow_encoder: bool) -> "Shape":
        """That of one model."""
        inputs, terminates = model.observation_dim + len(model.angles), model.continuation is not None
        return Shape(model.config, model.log_std, terminates, inputs, model.action_dim, slow_encoder)

    def padded(self, others: Sequence["Shape"]) -> "Shape":
        """Wide enough for others, too."""
        shapes = [self, *others]
        inputs, action_dim = max(shape.inputs for shape in shapes), max(shape.action_dim for shape in shapes)
        return replace(self, inputs=inputs, action_dim=action_dim)


def ordered(model: WorldModel, observation: Float[Tensor, "*S O"]) -> Float[Tensor, "*S I"]:
    """The elements of an observation as the encoder expects them, before anything is computed with them.

    Those that wind up come last, and twice; see `WorldModel.observe`.
    """
    if not model.angles:
        return observation
    others = [i for i in range(model.observation_dim) if i not in model.angles]
    return observation[..., [*others, *model.angles, *model.angles]]


_MOST_COMPILED = 256

_parameters: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters by name. They are looked for once: those of ours are only ever changed in place."""
    if module not in _parameters:
        _parameters[module] = dict(module.named_parameters())
    return _parameters[module]


def fixed(model: WorldModel) -> dict[str, Tensor]:
    """What of a model is never learned, by the names that it has in a `Template`."""
    angles = len(model.angles)
    kind = torch.full((model.observation_dim + angles,), _NORMALISED)
    if angles:
        kind[-2 * angles : -angles], kind[-angles:] = _SINE, _COSINE
    return {"kind": kind, "discount": torch.tensor(model.discount), "real": torch.ones(model.action_dim)}


def in_halves(model: WorldModel, name: str) -> bool:
    """Whether a parameter is the policy's output layer, which gives means and then log standard deviations."""
    return name.startswith(f"policy.{len(model.policy) - 1}.")


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
        """Of elements in the order of `ordered`."""
        angles = torch.where(self.kind == _SINE, observation.sin(), observation.cos())
        return torch.where(self.kind == _NORMALISED, self.norm(observation), angles)


class Networks(nn.Module):
    """A template and the slow networks that follow it, to compute with in the place of many agents'.

    Args:
        shape: of the agents.
        compiled: whether to compile each function that is called, which fuses hundreds of small operations.

    Attributes:
        compiled: the same; it may be changed at any time.
    """

    def __init__(self, shape: Shape, compiled: bool = False) -> None:
        super().__init__()
        self.compiled = compiled
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
        if compiled:
            # Each desk, function and count of candidates is one of its own, of the same line of code.
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_COMPILED)
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
                pure; and the same object whenever it is called, for what is compiled to be used again.
            args: tensors (n, ...) or tuples of those.

        Returns:
            What the function returns, every tensor with a leading n.
        """

        def every(tensors: dict[str, Tensor], *args: Any) -> Any:
            def one(tensors: dict[str, Tensor], *args: Any) -> Any:
                return functional_call(self, tensors, (function, *args))

            return torch.vmap(one)(tensors, *args)

        if not self.compiled:
            return every(tensors, *args)
        if function not in self._compiled:
            self._compiled[function] = torch.compile(every, fullgraph=True, dynamic=False)
        try:
            return self._compiled[function](tensors, *args)
        except Exception as error:
            if not type(error).__module__.startswith("torch._"):
                raise
            warnings.warn(f"compiling did not work, so it is computed without: {error}", stacklevel=2)
            self._compiled[function] = every
            return every(tensors, *args)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under longer names."""
    return {f"{prefix}{name}": x for name, x in tensors.items()}
