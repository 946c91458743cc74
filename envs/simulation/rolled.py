"""Imagining with MuJoCo's threaded rollouts."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium
import mujoco
import numpy as np

from envs.physics import physics
from envs.simulation.actions import OwnActions
from envs.simulation.copies import chain
from envs.simulation.gymnasium_rewards import gymnasium_reward
from envs.simulation.model import Baseline, ChangingModel, same
from envs.simulation.outcome import Outcome, count
from envs.simulation.rollouts import Rollouts
from envs.simulation.state import SimulatorState
from envs.simulation.steps import Array, Reward, Sensors, Steps, with_sensors
from envs.simulation.suite_rewards import suite_reward, suite_spec
from envs.simulation.suite_task import SuiteTask
from envs.stability import StabilityGuard
from envs.tasks import DMCONTROL, Task


class Rolled:
    """Threaded rollouts of the true dynamics, and rewards computed from their states and sensors.

    Args:
        env: an environment of `envs.make`, for nobody else's use.
        task: what is being played.
        baseline: its model as it was loaded.
        threads: rollouts that run at once.
        reward: the reward as a function of many steps; None where dm_control's own code is run on each.
        model: the environment's model with the sensors that the reward needs, for nobody else's use.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        task: Task,
        baseline: Baseline,
        threads: int,
        reward: Reward | None,
        model: mujoco.MjModel,
    ) -> None:
        inner: Any = env.unwrapped
        self.reward = reward
        self._repeat = task.action_repeat
        self._own_actions = OwnActions(env)
        self._suite = SuiteTask(env, baseline) if task.family == DMCONTROL else None
        self._model = ChangingModel(model, baseline)
        places = reward.places if reward is not None else ()
        self._rollouts = Rollouts(
            model,
            Sensors(model, places),
            substeps=inner._env._n_sub_steps if self._suite is not None else inner.frame_skip,
            threads=threads,
            reads=self._suite is not None or bool(places),
            up_to_date=self._suite is not None,
        )

    def memory(self, env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
        """What a live environment remembers besides its physics, as far as it matters."""
        return SuiteTask.memory(env) if self._suite is not None else []

    def imagine(self, states: Sequence[SimulatorState], actions: Array) -> Outcome:
        """What comes of candidates (B, N, H, A) in [-1, 1], from B states."""
        if self.reward is not None and all(same(states[0].changes, state.changes) for state in states[1:]):
            return self._imagine(states, actions)
        # Models differ, and there is one: one state after the other.
        parts = [self._imagine([state], candidates[None]) for state, candidates in zip(states, actions, strict=True)]
        return Outcome(
            rewards=np.concatenate([part.rewards for part in parts]),
            continues=np.concatenate([part.continues for part in parts]),
            diverged=np.concatenate([part.diverged for part in parts]),
            observe=lambda: np.concatenate([part.observe() for part in parts]),
        )

    def _imagine(self, states: Sequence[SimulatorState], actions: Array) -> Outcome:
        """The same from states whose models are alike."""
        batch, candidates, horizon, width = actions.shape
        rows = batch * candidates
        self._take(states[0])
        start = np.repeat(np.stack([state.physics for state in states]), candidates, axis=0)
        warmstart = np.repeat(np.stack([state.warmstart for state in states]), candidates, axis=0)
        own = self._own_actions(actions).reshape(rows, horizon, width)
        rewards, continues = np.zeros((rows, horizon)), np.zeros((rows, horizon), bool)
        diverged = np.zeros(rows, bool)
        last: list[Steps] = []
        for part, steps in self._rollouts.roll(start, warmstart, own, self._repeat):
            sound = self._rollouts.sound(steps)
            rewards[part], continues[part], diverged[part] = count(*self._rewards(steps), sound, self._repeat)
            last.append(steps.last())
        return Outcome(rewards, continues, diverged, observe=lambda: self._observe(states[0], last, continues[:, -1]))

    def _rewards(self, steps: Steps) -> tuple[Array, Array | None]:
        if self.reward is not None:
            with np.errstate(all="ignore"):  # what diverged is seen by the clock
                return self.reward.of(steps), None if self.reward.ends is None else self.reward.ends(steps)
        assert self._suite is not None
        return self._suite.rewards(steps)

    def _take(self, state: SimulatorState) -> None:
        self._model.take(state.changes)
        if self._suite is not None and self.reward is None:
            self._suite.take(state)

    def _observe(self, state: SimulatorState, last: Sequence[Steps], going_on: Array) -> Array:
        observe: Callable[[Steps], Array]
        if self._suite is not None:
            self._suite.take(state)
            observe = self._suite.observe
        else:
            assert self.reward is not None
            assert self.reward.observe is not None
            observe = self.reward.observe
        seen = np.concatenate([observe(steps)[:, 0] for steps in last]).astype(np.float32)
        seen[~going_on] = 0
        return seen

    def close(self) -> None:
        """Ends the threads."""
        self._rollouts.close()


def rolled(env: gymnasium.Env[Any, Any], task: Task, baseline: Baseline, threads: int) -> Rolled | None:
    """The rollouts of a task; None where its rewards can't be had from states and sensors.

    Args:
        env: an environment of `envs.make`, for nobody else's use.
        task: what is being played.
        baseline: its model as it was loaded.
        threads: rollouts that run at once.
    """
    inside = physics(env)
    assert inside is not None
    model, inner = inside[0], cast(Any, env.unwrapped)
    suite = task.family == DMCONTROL
    reward = suite_reward(task.id, inner._env.task, model) if suite else gymnasium_reward(inner)
    # A wrapper that came with a Gymnasium environment may have a hand in its reward.
    if not suite and not all(type(layer) in _HARMLESS for layer in _registered_layers(env)):
        reward = None
    equipped = copy.copy(model)
    if reward is not None and reward.places:
        spec = suite_spec(task.id, inner._env.task, model) if suite else mujoco.MjSpec.from_file(inner.fullpath)
        equipped = with_sensors(spec, reward.places)
        # Should a model be made in another way one day, the environment's own code still tells the reward.
        if not baseline.same_but_sensors(equipped):
            reward, equipped = None, copy.copy(model)
    if reward is None and not suite:
        return None
    return Rolled(env, task, baseline, threads, reward, equipped)


def _registered_layers(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """The wrappers between ours and the environment."""
    layers = chain(env)
    guard = next(i for i, layer in enumerate(layers) if isinstance(layer, StabilityGuard))
    return layers[guard + 1 : -1]


_HARMLESS = (
    gymnasium.wrappers.OrderEnforcing,
    gymnasium.wrappers.PassiveEnvChecker,
    gymnasium.wrappers.TimeLimit,
)
