"""Noise that a training run explores with."""

import math

import numpy as np


class CorrelatedNoise:
    """Normal deviates, one vector a decision, each of which resembles the one before: a first-order process.

    White noise hardly moves a body with inertia, since its pushes cancel out. The Ornstein-Uhlenbeck process of DDPG
    (Lillicrap et al., arXiv 1509.02971), in discrete time and with variance 1 at every moment.

    Args:
        size: elements of a vector.
        time: decisions after which all but 1/e of a deviate is forgotten; 0 for white noise.

    Attributes:
        last: (A,) the newest vector.
    """

    def __init__(self, size: int, time: float) -> None:
        self.last = np.zeros(size)
        self._keep = math.exp(-1 / time) if time else 0.0

    def begin(self, rng: np.random.Generator) -> None:
        """Forgets what was; call it when an episode begins."""
        self.last = rng.standard_normal(len(self.last))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The next vector (A,)."""
        fresh = rng.standard_normal(len(self.last))
        self.last = self._keep * self.last + math.sqrt(1 - self._keep**2) * fresh
        return self.last
