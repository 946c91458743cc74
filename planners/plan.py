"""What a planner is given to judge candidates with, and what it hands back."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Score = Callable[[Float[Tensor, "B N H A"]], Float[Tensor, "B N"]]
"""Predicted return of candidate action sequences, higher is better: the one thing a planner knows."""


@dataclass(frozen=True)
class Plan:
    """The outcome of one search, for ``B`` environments at once.

    Attributes:
        actions: (B, H, A) what to execute, every element in [-1, 1].
        value: (B,) the score of `actions`; -inf where no candidate had a finite one.
        std: (B, H, A) how sure the search is of each action: its distribution's standard deviation
            when it stopped (zeros for a planner that has none), or more, see `widened`. Exploration noise is drawn
            from it.
        evaluations: candidates scored, per environment.
        iterations: rounds of the loop that were completed.
        valid: (B,) False where every candidate scored NaN or infinity; `actions` is then the warm start,
            or zeros where there was none.
        stakes: (B,) how much more the best of the candidates that were drawn first promises than their median.
        elites: (B, E, H, A) candidates worth trying again at the next decision, best first; of a planner that
            remembers none, None.
    """

    actions: Float[Tensor, "B H A"]
    value: Float[Tensor, " B"]
    std: Float[Tensor, "B H A"]
    evaluations: int
    iterations: int
    valid: Bool[Tensor, " B"]
    stakes: Float[Tensor, " B"]
    elites: Float[Tensor, "B E H A"] | None = None

    def shift(self, steps: int = 1) -> "Plan":
        """The plan as seen `steps` decisions later: the warm start for the next search.

        What lies beyond the old horizon is zero, the middle of the action range. `value` still belongs
        to the plan that was shifted, since nothing has been scored again.
        """
        if steps < 0:
            raise ValueError(f"a plan can't be shifted by {steps} decisions; steps must be 0 or more")
        horizon = self.actions.shape[1]
        steps = min(steps, horizon)

        def moved(x: Tensor) -> Tensor:
            return torch.cat([x[..., steps:, :], torch.zeros_like(x[..., :steps, :])], dim=-2)

        elites = None if self.elites is None else moved(self.elites)
        return replace(self, actions=moved(self.actions), std=moved(self.std), elites=elites)

    def widened(self, least: float) -> "Plan":
        """The plan with wider noise where less than `least` is at stake: where nothing is, as wide as at random, 1.

        In between, it is in proportion. `least` is in the score's units, those of return; 0 leaves all as it is.
        """
        if not least:
            return self
        alike = (1 - self.stakes / least).clamp(0, 1)[:, None, None]
        return replace(self, std=self.std + alike * (1 - self.std))
