"""The MuJoCo simulation inside an environment, of either family."""

from typing import Any

import gymnasium
import mujoco


def physics(env: gymnasium.Env[Any, Any]) -> tuple[mujoco.MjModel, mujoco.MjData] | None:
    """The MuJoCo model and data inside an environment of either family; None when there are none."""
    inner = env.unwrapped
    if hasattr(inner, "_env") and hasattr(inner._env, "physics"):  # Shimmy around dm_control
        return inner._env.physics.model.ptr, inner._env.physics.data.ptr
    model, data = getattr(inner, "model", None), getattr(inner, "data", None)
    if isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData):
        return model, data
    return None


def decision_seconds(env: gymnasium.Env[Any, Any]) -> float:
    """Simulated seconds that one decision in an environment of `envs.make` lasts."""
    inner = env.unwrapped
    if hasattr(inner, "_env") and hasattr(inner._env, "control_timestep"):
        step = float(inner._env.control_timestep())
    else:
        step = float(getattr(inner, "dt", 1 / env.metadata.get("render_fps", 30)))
    return step * env.get_wrapper_attr("task").action_repeat
