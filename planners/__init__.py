"""Search over action sequences. Knows torch, and nothing else of preplay.

planner = planners.make("mppi", horizon=5, action_dim=2)
plan = planner.plan(score)          # score: candidates (B, N, H, A) -> predicted returns (B, N)
"""

from planners.cem import CEM, CEMConfig
from planners.cmaes import CMAES, CMAESConfig
from planners.errors import PlannerError
from planners.gaussian import Gaussian, GaussianPlanner
from planners.gradient import GradientConfig, GradientPlanner
from planners.icem import ICEM, ICEMConfig
from planners.knots import Knots
from planners.mppi import MPPI, MPPIConfig
from planners.noise import coloured
from planners.plan import Plan, Score
from planners.planner import Drawn, Planner, PlannerConfig, Scored
from planners.predictive import PredictiveConfig, PredictiveSampling
from planners.registry import get, make, names, register
from planners.shooting import Shooting, ShootingConfig

__all__ = [
    "CEM",
    "CMAES",
    "ICEM",
    "MPPI",
    "CEMConfig",
    "CMAESConfig",
    "Drawn",
    "Gaussian",
    "GaussianPlanner",
    "GradientConfig",
    "GradientPlanner",
    "ICEMConfig",
    "Knots",
    "MPPIConfig",
    "Plan",
    "Planner",
    "PlannerConfig",
    "PlannerError",
    "PredictiveConfig",
    "PredictiveSampling",
    "Score",
    "Scored",
    "Shooting",
    "ShootingConfig",
    "coloured",
    "get",
    "make",
    "names",
    "register",
]
