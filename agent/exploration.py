"""Noise that a training run explores with."""

import math

import numpy as np


class CorrelatedNoise:
    """Normal deviates, one vector a decision; in every other episode, by chance, each resembles the one before.

    White noise hardly moves a body with inertia, since its pushes cancel out: the pole of cartpole-swingup-sparse never
    comes up by it. The Ornstein-Uhlenbeck process of DDPG (Lillicrap et al., arXiv 1509.02971), here in discrete time
    and with variance 1 at every moment, moves it. What has to be balanced is lost by it more often, so half of the
    episodes have white noise.

    Args:
        size: elements of a vector.
        time: decisions after which all but 1/e of a deviate is forgotten; 0 for white noise in all episodes.
        share: probability that an episode's noise is correlated.

    Attributes:
        state: (A + 1,) the newest vector, and 1 in an episode whose noise is correlated, 0 in others: all to save.
    """

    def __init__(self, size: int, time: float, share: float = 0.5) -> None:
        self.state, self._share = np.zeros(size + 1), share
        self._keep = math.exp(-1 / time) if time else 0.0

    def begin(self, rng: np.random.Generator) -> None:
        """Forgets what was; call it when an episode begins."""
        self.state = np.append(rng.standard_normal(len(self.state) - 1), float(rng.random() < self._share))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The next vector (A,)."""
        before, correlated = self.state[:-1], self.state[-1]
        keep = self._keep if correlated >= 0.5 else 0.0  # former versions saved other numbers there
        now = keep * before + math.sqrt(1 - keep**2) * rng.standard_normal(len(before))
        self.state = np.append(now, correlated)
        return now
