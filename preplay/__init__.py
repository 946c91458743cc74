"""Model-predictive planning for simulated robotics: a learned latent world model, and planners that search in it.

The names that most users need are here, imported when first used:

    import preplay
    agent = preplay.load("checkpoints/walker-walk")
    env = preplay.make_env("walker-walk")
    planner = preplay.make_planner("mppi", horizon=5, action_dim=2)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Agent", "load", "make_env", "make_planner"]

if TYPE_CHECKING:
    from agent import Agent
    from envs import make as make_env
    from planners import make as make_planner

    load = Agent.load


def __getattr__(name: str) -> Any:
    if name == "make_env":
        from envs import make

        return make
    if name == "make_planner":
        from planners import make as make_planner

        return make_planner
    if name in ("Agent", "load"):
        from agent import Agent

        return Agent if name == "Agent" else Agent.load
    raise AttributeError(f"module 'preplay' has no attribute {name!r}")
