"""Stepping exact copies of an environment: the slow way, for rewards that only the environment itself can tell."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.physics import physics
from envs.simulation.attributes import plain_attributes, restore
from envs.simulation.model import Baseline, ChangingModel
from envs.simulation.outcome import Outcome, count
from envs.simulation.state import SimulatorState
from envs.simulation.steps import Array
from envs.stability import StabilityGuard
from envs.wrappers import FlatObservations


class Copies:
    """A private environment that is put into a given state and stepped, one candidate after the other.

    Args:
        env: an environment of `envs.make`, for nobody else's use, and without a time limit.
        baseline: its model as it was loaded.
        repeat: environment steps of a decision.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], baseline: Baseline, repeat: int) -> None:
        env.reset(seed=0)  # Gymnasium refuses steps before
        self._env, self._repeat = env, repeat
        # Inside ActionRepeat, which would not say with which step an episode ended.
        self._flat = next(layer for layer in chain(env) if isinstance(layer, FlatObservations))
        self._baseline = baseline

    @staticmethod
    def memory(env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
        """What a live environment remembers besides its physics."""
        return [plain_attributes(layer) for layer in _own_layers(env)]

    def imagine(self, states: Sequence[SimulatorState], actions: Array) -> Outcome:
        """What comes of candidates (B, N, H, A) in [-1, 1], from B states."""
        batch, candidates, horizon, _ = actions.shape
        rows = batch * candidates
        rewards = np.zeros((rows, horizon * self._repeat))
        ends, sound = np.zeros(rewards.shape, bool), np.ones(rewards.shape, bool)
        shape = self._env.observation_space.shape
        assert shape is not None
        seen = np.zeros((rows, *shape), np.float32)
        for row, (b, n) in enumerate(np.ndindex(batch, candidates)):
            self._restore(states[b])
            for j in range(rewards.shape[1]):
                observation, rewards[row, j], ends[row, j], _, info = self._flat.step(actions[b, n, j // self._repeat])
                sound[row, j] = not info["unstable"]
                if ends[row, j] or not sound[row, j]:
                    break
            else:
                seen[row] = observation
        return Outcome(*count(rewards, ends, sound, self._repeat), observe=lambda: seen)

    def _restore(self, state: SimulatorState) -> None:
        inside = physics(self._env)
        assert inside is not None
        # Some environments build another model when they are reset, so this one isn't kept.
        ChangingModel(inside[0], self._baseline).take(state.changes)
        mujoco.mj_copyData(inside[1], inside[0], state.data)
        for layer, attributes in zip(_own_layers(self._env), state.memory, strict=True):
            restore(layer, attributes)

    def close(self) -> None:
        """Nothing to end: the environment isn't ours."""


def chain(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """An environment's layers, from the outermost to the environment itself."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _own_layers(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """The layers inside our own wrappers; how long an episode may last plays no part."""
    layers = chain(env)
    guard = next(i for i, layer in enumerate(layers) if isinstance(layer, StabilityGuard))
    return [layer for layer in layers[guard + 1 :] if not isinstance(layer, gymnasium.wrappers.TimeLimit)]
