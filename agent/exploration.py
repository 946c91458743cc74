"""How a training run explores: its noise, and in which episodes widely."""

import math

import numpy as np


class EpisodeNoise:
    """Normal deviates, one vector a decision: white, or in some episodes, by chance, each much like the one before.

    White noise hardly moves a body with inertia, since its pushes cancel out: the pole of cartpole-swingup-sparse never
    comes up by it. The Ornstein-Uhlenbeck process of DDPG (Lillicrap et al., arXiv 1509.02971), here in discrete time
    and with variance 1 at every moment, moves it. What has to be balanced is lost by it more often, so the other
    episodes have white noise.

    By the same chance some episodes are explored widely, see `TrainConfig.wide_share`: the boldest ones, as it is the
    boldest ones whose noise lasts.

    Args:
        size: elements of a vector.
        time: decisions after which all but 1/e of a deviate is forgotten; 0 for white noise in all episodes.
        share: probability that an episode's noise lasts.
        wide_share: probability that an episode is explored widely.

    Attributes:
        state: (A + 1,) the newest vector, and how bold the episode is, in (0, 1]: all that there is to save.
    """

    def __init__(self, size: int, time: float, share: float = 0.5, wide_share: float = 0.5) -> None:
        self.state, self._share, self._wide_share = np.zeros(size + 1), share, wide_share
        self._keep = math.exp(-1 / time) if time else 0.0

    def begin(self, rng: np.random.Generator) -> None:
        """Forgets what was; call it when an episode begins."""
        self.state = np.append(rng.standard_normal(len(self.state) - 1), 1 - rng.random())

    @property
    def wide(self) -> bool:
        """Whether this episode is explored widely."""
        return bool(self.state[-1] >= 1 - self._wide_share)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The next vector (A,)."""
        before, boldness = self.state[:-1], self.state[-1]
        # States from before there were wide episodes say 0 of white noise, and of the other what it keeps, mostly 0.78.
        keep = self._keep if boldness >= 1 - self._share else 0.0
        now = keep * before + math.sqrt(1 - keep**2) * rng.standard_normal(len(before))
        self.state = np.append(now, boldness)
        return now
