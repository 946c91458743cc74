"""What a learner is given."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences of `T` decisions from `M` places in the experience.

    A sequence never crosses an episode: where the episode (or the experience so far) ends early, the rest of the
    sequence is padding, which repeats the last real decision, and `mask` is 0 there.

    Attributes:
        observations: (T+1, M, O) before and after each decision.
        actions: (T, M, A).
        rewards: (T, M).
        terminated: (T, M) 1 where the decision ended the episode for good.
        mask: (T, M) 1 for real decisions. The first one of each sequence always is.
        starts: (M,) absolute numbers of the first decisions.
        probabilities: (M,) with which each of them was drawn.
    """

    observations: Float[Tensor, "T1 M O"]
    actions: Float[Tensor, "T M A"]
    rewards: Float[Tensor, "T M"]
    terminated: Float[Tensor, "T M"]
    mask: Float[Tensor, "T M"]
    starts: Int64[np.ndarray, " M"]
    probabilities: Float64[np.ndarray, " M"]

    def beside(self, other: "Batch") -> "Batch":
        """The sequences of this one, then those of another one of the same length and sizes."""
        return Batch(
            torch.cat([self.observations, other.observations], 1),
            torch.cat([self.actions, other.actions], 1),
            torch.cat([self.rewards, other.rewards], 1),
            torch.cat([self.terminated, other.terminated], 1),
            torch.cat([self.mask, other.mask], 1),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.probabilities, other.probabilities]),
        )
