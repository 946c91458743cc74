"""Where in a row of numbers everything lies that is learned of one agent, those of all agents alike."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agent.learner import Learner
from agent.many.networks import Networks, Shape, in_halves, parameters
from agent.many.padding import cut, pad
from agent.world_model import WorldModel

_ALIGNED = 8  # floats: where a tensor begins, so that it can be read in whole vectors


@dataclass(frozen=True)
class Place:
    """Where a tensor lies.

    Attributes:
        name: of a parameter of the model.
        begin: of its elements, counted from the begin of its section.
        shape: padded to that of the largest agent's.
    """

    name: str
    begin: int
    shape: torch.Size


class Layout:
    """A row holds sections: parameters, what follows them slowly, and both moments of Adam.

    The parameters of the `world` are those of the value ensemble, the encoder and the rest, in this order, so that the
    slow networks, which are of the first or the first two of them, lie like the beginning of a row. Then come those of
    the `policy`.

    Args:
        shape: of the agents.

    Attributes:
        world: places of the world's parameters.
        policy: those of the policy's.
        sizes: of the sections `world`, `policy` and `slow`, padding included.
        slices: where each section and each of Adam's lies, by name. `step` and `scale` are one number each.
        width: numbers of a row.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        networks = Networks(shape)
        known = {name: x.shape for name, x in networks.model.named_parameters()}
        parts: dict[str, list[str]] = {"value": [], "encoder": [], "rest": [], "policy": []}
        for name in known:
            kind = name.partition(".")[0]
            parts[kind if kind in parts else "rest"].append(name)
        followed = [f"value.{name}" for name, _ in networks.slow.value.named_parameters()]
        if networks.slow.encoder is not None:
            followed += [f"encoder.{name}" for name, _ in networks.slow.encoder.named_parameters()]
        self.world, world = _lay([(name, known[name]) for part in ("value", "encoder", "rest") for name in parts[part]])
        self.policy, policy = _lay([(name, known[name]) for name in parts["policy"]])
        self.slow, slow = self.world[: len(followed)], _lay([(name, known[name]) for name in followed])[1]
        assert [place.name for place in self.slow] == followed
        self.sizes = {"world": world, "policy": policy, "slow": slow}
        self.slices: dict[str, slice] = {}
        self.width = 0
        moments = {f"{part}_{moment}": self.sizes[part] for part in ("world", "policy") for moment in ("mean", "var")}
        for name, size in (self.sizes | moments | {"step": _ALIGNED, "scale": _ALIGNED}).items():
            self.slices[name] = slice(self.width, self.width + size)
            self.width += size

    def rate_factors(self, encoder_rate: float) -> Float[Tensor, " W"]:
        """Factors on the step size for the world's section."""
        factors = torch.ones(self.sizes["world"])
        for place in self.world:
            if place.name.startswith("encoder."):
                factors[place.begin : place.begin + place.shape.numel()] = encoder_rate
        return factors

    def views(self, section: Float[Tensor, "n W"], places: list[Place]) -> dict[str, Tensor]:
        """The tensors (n, ...) in a section, by name. Gradients come back to the section in one piece."""
        sizes = []
        for place, end in zip(places, [*(place.begin for place in places[1:]), section.shape[1]], strict=True):
            used = place.shape.numel()
            sizes += [used, end - place.begin - used]
        pieces = section.split(sizes, dim=1)[::2]
        return {place.name: piece.unflatten(1, place.shape) for place, piece in zip(places, pieces, strict=True)}

    @torch.no_grad()
    def write_model(self, model: WorldModel, row: Float[Tensor, " R"]) -> None:
        """Puts a model's parameters where they belong."""
        own = parameters(model)
        for name, places in (("world", self.world), ("policy", self.policy)):
            for place in places:
                row[_within(self.slices[name], place)] = _flat(own[place.name], place, model)

    @torch.no_grad()
    def write(self, learner: Learner, row: Float[Tensor, " R"]) -> None:
        """Puts everything of a learner where it belongs."""
        model, own = learner.model, parameters(learner.model)
        row.zero_()
        self.write_model(model, row)
        slow = dict(learner.slow.named_parameters())
        for place in self.slow:
            row[_within(self.slices["slow"], place)] = _flat(slow[place.name], place, model)
        for name, places, optimizer in self._optimised(learner):
            for place in places:
                state = optimizer.state.get(own[place.name])
                if state:
                    for moment, key in (("mean", "exp_avg"), ("var", "exp_avg_sq")):
                        there = _within(self.slices[f"{name}_{moment}"], place)
                        row[there] = _flat(state[key], place, model)
                    row[self.slices["step"]] = state["step"]
        row[self.slices["scale"]] = learner.value_scale

    @torch.inference_mode(False)
    @torch.no_grad()
    def read(self, row: Float[Tensor, " R"], learner: Learner) -> None:
        """The reverse of `write`: changes the learner, and its model, in place."""
        model, own = learner.model, parameters(learner.model)
        for name, places in (("world", self.world), ("policy", self.policy)):
            for place in places:
                own[place.name].copy_(_cut(row[_within(self.slices[name], place)], place, model))
        slow = dict(learner.slow.named_parameters())
        for place in self.slow:
            slow[place.name].copy_(_cut(row[_within(self.slices["slow"], place)], place, model))
        step = row[self.slices["step"]][0]
        for name, places, optimizer in self._optimised(learner) if step else ():
            for place in places:
                state: dict[str, Tensor] = {"step": step.clone()}
                for moment, key in (("mean", "exp_avg"), ("var", "exp_avg_sq")):
                    found = row[_within(self.slices[f"{name}_{moment}"], place)]
                    state[key] = _cut(found, place, model).clone(memory_format=torch.contiguous_format)
                optimizer.state[own[place.name]] = state
        learner.value_scale.copy_(row[self.slices["scale"]][0])

    def _optimised(self, learner: Learner) -> list[tuple[str, list[Place], torch.optim.Optimizer]]:
        return [
            ("world", self.world, learner.world_optimizer),
            ("policy", self.policy, learner.policy_optimizer),
        ]


def _lay(known: list[tuple[str, torch.Size]]) -> tuple[list[Place], int]:
    """Places one after another, and how long they are together."""
    places, end = [], 0
    for name, shape in known:
        places.append(Place(name, end, shape))
        end += math.ceil(shape.numel() / _ALIGNED) * _ALIGNED
    return places, end


def _within(section: slice, place: Place) -> slice:
    begin = section.start + place.begin
    return slice(begin, begin + place.shape.numel())


def _flat(x: Tensor, place: Place, model: WorldModel) -> Tensor:
    return pad(x, place.shape, in_halves(model, place.name)).flatten()


def _cut(found: Tensor, place: Place, model: WorldModel) -> Tensor:
    return cut(found.view(place.shape), parameters(model)[place.name], in_halves(model, place.name))
