"""The experience buffer: what was seen, done and got."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences of `T` decisions from `M` places in the buffer.

    A sequence never crosses an episode: where the episode (or the experience so far) ends early, the rest of the
    sequence is padding, and `mask` is 0 there.

    Attributes:
        observations: (T+1, M, O) before and after each decision.
        actions: (T, M, A).
        rewards: (T, M).
        terminated: (T, M) 1 where the decision ended the episode for good.
        mask: (T, M) 1 for real decisions. The first one of each sequence always is.
    """

    observations: Float[Tensor, "T1 M O"]
    actions: Float[Tensor, "T M A"]
    rewards: Float[Tensor, "T M"]
    terminated: Float[Tensor, "T M"]
    mask: Float[Tensor, "T M"]


class Experience:
    """A ring of decisions in memory, the oldest overwritten first; each can be sampled as soon as it is added.

    Args:
        capacity: decisions held.
        observation_dim: elements of an observation.
        action_dim: elements of an action.
    """

    def __init__(self, capacity: int, observation_dim: int, action_dim: int) -> None:
        self.capacity = capacity
        self._observations = np.zeros((capacity, observation_dim), np.float32)
        self._next_observations = np.zeros((capacity, observation_dim), np.float32)
        self._actions = np.zeros((capacity, action_dim), np.float32)
        self._rewards = np.zeros(capacity, np.float32)
        self._terminated = np.zeros(capacity, bool)
        self._last = np.zeros(capacity, bool)
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        observation: ArrayLike,
        action: ArrayLike,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Stores one decision of the running episode.

        Args:
            observation: (O,) before it.
            action: (A,) in [-1, 1].
            reward: what it earned.
            next_observation: (O,) after it.
            terminated: the episode is over and nothing more can be earned.
            truncated: the episode was cut off; more could have been earned.

        Raises:
            ValueError: when something is not finite, which would spoil every later update.
        """
        # Looked at before anything is written: in a full ring the place still holds the oldest decision.
        given = [np.asarray(x, np.float32) for x in (observation, next_observation, action, reward)]
        if not all(np.isfinite(x).all() for x in given):
            raise ValueError("a decision with NaN or infinite values can't be stored as experience")
        i = self._next
        self._observations[i], self._next_observations[i], self._actions[i], self._rewards[i] = given
        self._terminated[i] = terminated
        self._last[i] = terminated or truncated
        self._next = (i + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)

    def end_episode(self) -> None:
        """Marks the newest decision as its episode's last: what follows is another episode."""
        if self._size:
            self._last[self._next - 1] = True

    def sample(
        self, batch_size: int, length: int, rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> Batch:
        """Sequences of `length` decisions, beginning anywhere with the same probability.

        Raises:
            ValueError: when the buffer is empty.
        """
        if not self._size:
            raise ValueError("the experience buffer is empty")
        oldest = self._next if self._size == self.capacity else 0
        start = rng.integers(self._size, size=batch_size)  # counted from the oldest decision
        age = start + np.arange(length)[:, None]
        index = (oldest + age) % self.capacity
        inside = age < self._size
        # Real as long as no earlier decision of the sequence was an episode's last.
        ended = np.cumsum(self._last[index], axis=0) - self._last[index]
        mask = inside & (ended == 0)
        # Padding repeats the last real decision, so that what is computed for it stays in the data's range.
        real = np.maximum(mask.sum(axis=0) - 1, 0)
        index = np.take_along_axis(index, np.minimum(np.arange(length)[:, None], real), axis=0)
        observations = np.concatenate([self._observations[index[:1]], self._next_observations[index]])

        def tensor(x: np.ndarray) -> Tensor:
            return torch.from_numpy(x.astype(np.float32, copy=False)).to(device)

        return Batch(
            tensor(observations),
            tensor(self._actions[index]),
            tensor(self._rewards[index]),
            tensor(self._terminated[index]),
            tensor(mask),
        )
