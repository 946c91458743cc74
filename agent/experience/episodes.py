"""Whole episodes, as they are listed, read and appended."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32


@dataclass(frozen=True)
class Episode:
    """An episode that the store holds.

    Attributes:
        number: counted from the store's beginning, never used twice.
        task: what it was played in.
        seed: that its environment was reset with; None where nobody said.
        action_repeat: environment steps a decision.
        observation_dim: elements of an observation.
        action_dim: elements of an action.
        first: absolute number of its first decision (of the next one, where it has none).
        decisions: how many it has so far.
        episode_return: sum of its rewards.
        terminated: its last decision ended it for good.
        truncated: its last decision was where it was cut off.
        running: decisions can still be added.
        actors: how many decisions each actor took, by name.
        extra: whatever was said about it when it began.
        segment: number of the segment that it lies in; 0 while it has only begun and isn't on disk.
        row: where its first observation lies in that segment.
    """

    number: int
    task: str
    seed: int | None
    action_repeat: int
    observation_dim: int
    action_dim: int
    first: int
    decisions: int
    episode_return: float
    terminated: bool
    truncated: bool
    running: bool
    actors: dict[str, int]
    extra: dict[str, Any]
    segment: int
    row: int


@dataclass(frozen=True)
class EpisodeData:
    """What happened in an episode of `L` decisions.

    Attributes:
        observations: (L+1, O) before and after each decision.
        actions: (L, A) in [-1, 1].
        rewards: (L,).
        terminated: (L,) at most the last one is.
        truncated: (L,) at most the last one is.
        actors: names of who took each decision, `L` of them.
    """

    observations: Float32[np.ndarray, "L1 O"]
    actions: Float32[np.ndarray, "L A"]
    rewards: Float32[np.ndarray, " L"]
    terminated: Bool[np.ndarray, " L"]
    truncated: Bool[np.ndarray, " L"]
    actors: list[str]
