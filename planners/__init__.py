"""Search over action sequences. Knows torch, and nothing else of preplay.

planner = planners.make("mppi", horizon=5, action_dim=2)
plan = planner.plan(score)          # score: candidates (B, N, H, A) -> predicted returns (B, N)
"""

from planners.cem import CEM, CEMConfig
from planners.errors import PlannerError
from planners.mppi import MPPI, MPPIConfig
from planners.plan import Plan, Score
from planners.planner import Gaussian, GaussianPlanner, Planner, PlannerConfig
from planners.registry import get, make, names, register

__all__ = [
    "CEM",
    "MPPI",
    "CEMConfig",
    "Gaussian",
    "GaussianPlanner",
    "MPPIConfig",
    "Plan",
    "Planner",
    "PlannerConfig",
    "PlannerError",
    "Score",
    "get",
    "make",
    "names",
    "register",
]
