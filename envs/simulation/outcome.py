"""What became of imagined rollouts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.simulation.steps import Array


@dataclass(frozen=True)
class Outcome:
    """M rollouts of H decisions.

    Attributes:
        rewards: (M, H) per decision.
        continues: (M, H) whether the episode goes on after each decision.
        diverged: (M,) whether the physics stopped being sound while the episode was running.
        observe: the observations (M, O) at the end, float32; zeros where the episode doesn't go on.
    """

    rewards: Array
    continues: Array
    diverged: Array
    observe: Callable[[], Array]


def count(rewards: Array, ends: Array | None, sound: Array, repeat: int) -> tuple[Array, Array, Array]:
    """Sums rewards over decisions, as far as the episode goes.

    Args:
        rewards: (M, J) of each environment step.
        ends: (M, J) whether the episode terminates with it; None where it never does.
        sound: (M, J) whether the physics is still sound after it.
        repeat: environment steps of a decision.

    Returns:
        rewards (M, H), continues (M, H) and diverged (M,) as in `Outcome`.
    """
    sound = sound & np.isfinite(rewards)
    stops = ~sound if ends is None else ends | ~sound
    over = np.logical_or.accumulate(stops, axis=1)
    running = ~np.concatenate((np.zeros_like(over[:, :1]), over[:, :-1]), axis=1)
    earned = np.where(running & sound, rewards, 0.0)
    total = np.zeros((len(rewards), rewards.shape[1] // repeat))
    for i in range(repeat):  # one after the other, as ActionRepeat adds them
        total += earned[:, i::repeat]
    return total, ~over[:, repeat - 1 :: repeat], np.logical_or.reduce(running & ~sound, axis=1)
