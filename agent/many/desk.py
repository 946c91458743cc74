"""Memory that the processes of many agents share with the one that computes for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from agent.config import TrainConfig
from agent.many.layout import Layout
from agent.many.networks import Shape


class Ask(IntEnum):
    """What a process asks for. Requests of the lowest number are answered first, and together."""

    NOTHING = 0
    PUT = 1  # the row it has written is what its agent is from now on
    GET = 2  # the row as it is by now
    PLAN = 3
    PROPOSE = 4
    SCORE = 5
    UPDATE = 6


class Said(IntEnum):
    """What is answered, beside the numbers."""

    DONE = 0
    DIVERGED = 1
    FAILED = 2


# The order in which an update's metrics lie on the desk; some are of some agents only.
METRICS = (
    "consistency_loss", "reward_loss", "value_loss", "contrast_loss", "continue_loss", "target_value", "policy_loss",
    "entropy", "imitated", "value_scale", "gradient_norm",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What a desk is made for.

    Attributes:
        agents: that sit at it, n.
        shape: of all.
        config: of all; seeds and steps may be others.
    """

    agents: int
    shape: Shape
    config: TrainConfig

    @property
    def candidates(self) -> tuple[int, ...]:
        """Places for as many candidates as a planner most often scores. Others take the next larger place."""
        return self.config.planning.candidates


class Desk:
    """Arrays with a leading n, one row for each agent, in which all that is asked and answered is written.

    Each process writes into its own row, says what it asks for, rings and waits; see `Bells`.

    Args:
        sizes: of everything.

    Attributes:
        memory: that all lie in. One piece, since what is sent to each process keeps a file open, and what a GPU is to
            reach is told to it piece by piece.
        arrays: by name; see `_shapes`.
        asks: (n, 2) what each asks for (`Ask`) and, of scores, which of `sizes.candidates` it takes.
        said: (n,) `Said`.
    """

    def __init__(self, sizes: Sizes) -> None:
        memory = torch.zeros(sum(_room(shape) for shape in _shapes(sizes).values()))
        words = torch.zeros((sizes.agents, 3), dtype=torch.int64)
        self.__setstate__((sizes, memory.share_memory_(), words.share_memory_()))
        # A row that nobody has written yet is computed with, too.
        self.arrays["mask"].fill_(1)
        self.arrays["var"].fill_(1)

    def __getstate__(self) -> tuple[Sizes, Tensor, Tensor]:
        return self.sizes, self.memory, self._words

    def __setstate__(self, state: tuple[Sizes, Tensor, Tensor]) -> None:
        self.sizes, self.memory, self._words = state
        shapes = _shapes(self.sizes)
        parts = self.memory.split([_room(shape) for shape in shapes.values()])
        self.arrays = {
            name: part[: math.prod(shape)].view(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        self.asks, self.said = self._words[:, :2], self._words[:, 2]


def _room(shape: Sequence[int]) -> int:
    """Numbers that an array takes, up to where a line of the processor's cache begins."""
    return -(-math.prod(shape) // 16) * 16


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    n, shape, config = sizes.agents, sizes.shape, sizes.config
    learner, planning = config.learner, config.planning
    inputs, actions, latent = shape.inputs, shape.action_dim, config.model.latent_dim
    steps, batch = learner.horizon, learner.batch_size
    proposals = max(planning.proposals, 1)
    shapes: dict[str, tuple[int, ...]] = {
        # Of the agent: what is put and got, and what is never learned.
        "row": (n, Layout(shape).width),
        "kind": (n, inputs),
        "discount": (n,),
        "real": (n, actions),
        # What is normal in its observations.
        "mean": (n, inputs),
        "var": (n, inputs),
        # A proposal.
        "observation": (n, 1, inputs),
        "noise": (n, planning.horizon, proposals, actions),
        "latent": (n, 1, latent),
        "proposals": (n, 1, proposals, planning.horizon, actions),
        # A plan.
        "warm_start": (n, planning.horizon, actions),
        "deviates": (n, *(deviates(sizes) or (0,))),
        "plan": (n, planning.horizon, actions),
        "std": (n, planning.horizon, actions),
        "stakes": (n,),
        "value": (n,),
        "valid": (n,),
        "counts": (n, 2),
        # An update.
        "observations": (n, steps + 1, batch, inputs),
        "actions": (n, steps, batch, actions),
        "rewards": (n, steps, batch),
        "terminated": (n, steps, batch),
        "mask": (n, steps, batch),
        "target_noise": (n, steps if learner.returns == "single" else 1, batch, actions),
        "policy_noise": (n, batch, actions),
        "members": (n, 2),
        "errors": (n, batch),
        "metrics": (n, len(METRICS)),
    }
    for i, count in enumerate(sizes.candidates):
        shapes |= {
            f"start.{i}": (n, 1, latent),
            f"candidates.{i}": (n, 1, count, planning.horizon, actions),
            f"values.{i}": (n, 1, count),
        }
    return shapes


def deviates(sizes: Sizes) -> tuple[int, ...] | None:
    """Shape of what a plan takes of them; None where plans are not made as a whole."""
    planning = sizes.config.planning
    planner = planning.make(sizes.shape.action_dim)
    # What a planner remembers isn't brought from one plan to the next here, and no plan is ended in time.
    if planner is None or planner.config.remember or planning.budget_ms is not None:
        return None
    return planner.deviates()
