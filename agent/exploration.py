"""Noise that a training run explores with."""

import math

import numpy as np


class CorrelatedNoise:
    """Normal deviates, one vector a decision; in some of the episodes, by chance, each resembles the one before.

    White noise hardly moves a body with inertia, since its pushes cancel out: the pole of cartpole-swingup-sparse never
    comes up by it. The Ornstein-Uhlenbeck process of DDPG (Lillicrap et al., arXiv 1509.02971), here in discrete time
    and with variance 1 at every moment, moves it. What has to be balanced is lost by it more often, so the other
    episodes have white noise.

    By the same chance some episodes are explored widely, see `TrainConfig.wide_share`: the boldest ones, as it is the
    boldest ones whose noise lasts.

    Args:
        size: elements of a vector.
        time: decisions after which all but 1/e of a deviate is forgotten; 0 for white noise in all episodes.
        share: probability that an episode's noise is correlated.
        wide: probability that an episode is explored widely.

    Attributes:
        state: (A + 1,) the newest vector, and how bold the episode is, in (0, 1]: all that there is to save.
    """

    def __init__(self, size: int, time: float, share: float = 0.5, wide: float = 0.5) -> None:
        self.state, self._share, self._wide = np.zeros(size + 1), share, wide
        self._keep = math.exp(-1 / time) if time else 0.0

    def begin(self, rng: np.random.Generator) -> None:
        """Forgets what was; call it when an episode begins."""
        # Less than 1 - share is white, as is 0, which states of runs from before there were wide episodes say of it.
        self.state = np.append(rng.standard_normal(len(self.state) - 1), 1 - rng.random())

    @property
    def wide(self) -> bool:
        """Whether this episode is explored widely."""
        return bool(self.state[-1] >= 1 - self._wide)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The next vector (A,)."""
        before, boldness = self.state[:-1], self.state[-1]
        keep = self._keep if boldness >= 1 - self._share else 0.0
        now = keep * before + math.sqrt(1 - keep**2) * rng.standard_normal(len(before))
        self.state = np.append(now, boldness)
        return now
