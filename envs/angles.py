"""Angles that wind up: joints that can turn for ever."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from envs.physics import physics

TURN = 2 * np.pi


def winding_angles(env: gymnasium.Env[Any, Any]) -> tuple[int, ...]:
    """Which elements of the observation are angles of joints without limits.

    Such an angle grows with every turn, though the world is the same after each. They are found by trying: a joint is
    turned once around, and the elements that have grown by a full turn one decision later are its angles.

    Args:
        env: an environment of `envs.make`; its running episode is lost, and the next `reset` begins a new one.

    Returns:
        Indices into the flat observation, in ascending order; none for images and for other simulators.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        return ()
    joints = _endless_joints(env)
    if not joints:
        return ()
    at_rest = _observe(env, None)
    found = set()
    for joint in joints:
        turned = _observe(env, joint)
        found |= set(np.flatnonzero(np.isclose(turned - at_rest, TURN, rtol=0, atol=1e-2)).tolist())
    return tuple(sorted(found))


def _endless_joints(env: gymnasium.Env[Any, Any]) -> list[int]:
    """Hinges that have neither limits nor a spring to wind up."""
    inside = physics(env)
    if inside is None:
        return []
    model = inside[0]
    hinge = np.asarray(model.jnt_type) == mujoco.mjtJoint.mjJNT_HINGE
    endless = hinge & ~np.asarray(model.jnt_limited, bool) & (np.asarray(model.jnt_stiffness) == 0)
    return np.flatnonzero(endless).tolist()


def _observe(env: gymnasium.Env[Any, Any], turned: int | None) -> Any:
    """The observation one decision after the same start, with one joint turned around."""
    env.reset(seed=0)
    if turned is not None:
        inside = physics(env)  # some tasks build another model when they reset
        assert inside is not None
        model, data = inside
        data.qpos[model.jnt_qposadr[turned]] += TURN
    assert env.action_space.shape is not None
    return env.step(np.zeros(env.action_space.shape, np.float32))[0]
