"""The rewards of Gymnasium's v5 MuJoCo tasks that follow from states, actions and positions, for many steps at once.

Each function mirrors the reward of one task, in the same order of operations and with the same types: control costs
are float32, as the actions are. Gymnasium computes no positions of bodies after its last physics step, so what it
takes for them is one physics step old; so are the sensors here. Where the integrator is Runge-Kutta's it is not even
that, but a stage within the step, which no rollout returns; so Reacher and InvertedDoublePendulum aren't here. Nor are
the tasks whose rewards need contact forces: Ant, Humanoid and HumanoidStandup.
"""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from envs.simulation.steps import Array, Reward, Steps, position


def gymnasium_reward(env: Any) -> Reward | None:
    """The reward of Gymnasium's own environment, unwrapped; None for one that has none here."""
    kind = type(env)
    name = kind.__module__.removeprefix("gymnasium.envs.mujoco.")
    maker = _REWARDS.get(f"{name}.{kind.__qualname__}")
    reward = None if maker is None else maker(env)
    if reward is not None and reward.places and env.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
        return None
    return reward


def _squares(action: Array) -> Array:
    return np.sum(np.square(action), axis=-1)


def _velocity(s: Steps, env: Any) -> Array:
    return (s.qpos[..., 0] - s.qpos_before[..., 0]) / env.dt


def _positions_and_velocities(env: Any, skip: int, limit: float = np.inf) -> Callable[[Steps], Array]:
    first = skip if env._exclude_current_positions_from_observation else 0
    return lambda s: np.concatenate((s.qpos[..., first:], np.clip(s.qvel, -limit, limit)), axis=-1)


def _half_cheetah(env: Any) -> Reward:
    def reward(s: Steps) -> Array:
        return env._forward_reward_weight * _velocity(s, env) - env._ctrl_cost_weight * _squares(s.action)

    return Reward(reward, observe=_positions_and_velocities(env, 1))


def _swimmer(env: Any) -> Reward:
    def reward(s: Steps) -> Array:
        return env._forward_reward_weight * _velocity(s, env) - env._ctrl_cost_weight * _squares(s.action)

    return Reward(reward, observe=_positions_and_velocities(env, 2))


def _walking(env: Any, healthy: Callable[[Steps], Array]) -> Reward:
    def reward(s: Steps) -> Array:
        rewards = env._forward_reward_weight * _velocity(s, env) + healthy(s) * env._healthy_reward
        return rewards - env._ctrl_cost_weight * _squares(s.action)

    def ends(s: Steps) -> Array:
        return ~healthy(s) & env._terminate_when_unhealthy

    return Reward(reward, ends=ends, observe=_positions_and_velocities(env, 1, 10))


def _hopper(env: Any) -> Reward:
    def healthy(s: Steps) -> Array:
        rest = np.concatenate((s.qpos[..., 2:], s.qvel), axis=-1)
        return (
            _within(rest, env._healthy_state_range).all(-1)
            & _within(s.qpos[..., 1], env._healthy_z_range)
            & _within(s.qpos[..., 2], env._healthy_angle_range)
        )

    return _walking(env, healthy)


def _walker2d(env: Any) -> Reward:
    def healthy(s: Steps) -> Array:
        return _within(s.qpos[..., 1], env._healthy_z_range) & _within(s.qpos[..., 2], env._healthy_angle_range)

    return _walking(env, healthy)


def _within(x: Array, bounds: tuple[float, float]) -> Array:
    return (bounds[0] < x) & (x < bounds[1])


def _inverted_pendulum(env: Any) -> Reward:
    def observe(s: Steps) -> Array:
        return np.concatenate((s.qpos, s.qvel), axis=-1)

    def ends(s: Steps) -> Array:
        return ~np.isfinite(observe(s)).all(-1) | (np.abs(s.qpos[..., 1]) > 0.2)

    return Reward(lambda s: (~ends(s)).astype(float), ends=ends, observe=observe)


def _pusher(env: Any) -> Reward:
    thing, tips, goal = position("body", "object"), position("body", "tips_arm"), position("body", "goal")

    def reward(s: Steps) -> Array:
        near = -np.linalg.norm(s.sensor(thing) - s.sensor(tips), axis=-1) * env._reward_near_weight
        distance = -np.linalg.norm(s.sensor(thing) - s.sensor(goal), axis=-1) * env._reward_dist_weight
        return distance + -_squares(s.action) * env._reward_control_weight + near

    def observe(s: Steps) -> Array:
        parts = (s.qpos[..., :7], s.qvel[..., :7], s.sensor(tips), s.sensor(thing), s.sensor(goal))
        return np.concatenate(parts, axis=-1)

    return Reward(reward, (thing, tips, goal), observe=observe)


_REWARDS: dict[str, Callable[[Any], Reward]] = {
    "half_cheetah_v5.HalfCheetahEnv": _half_cheetah,
    "hopper_v5.HopperEnv": _hopper,
    "inverted_pendulum_v5.InvertedPendulumEnv": _inverted_pendulum,
    "pusher_v5.PusherEnv": _pusher,
    "swimmer_v5.SwimmerEnv": _swimmer,
    "walker2d_v5.Walker2dEnv": _walker2d,
}
