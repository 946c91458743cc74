"""What learns: world model, experience, learner, trainer, checkpoints, the agent.

agent = Agent.load("checkpoints/walker-walk")
action = agent.act(observation)
"""

from agent import resume
from agent.agent import Agent, AgentInfo, configure_torch
from agent.checkpoint import describe
from agent.config import MOST_SEEDS, PRESETS, LearnerConfig, ModelConfig, PlanningConfig, TrainConfig, preset
from agent.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    ExperienceError,
    ObservationError,
    ProcessError,
    TrainingStopped,
)
from agent.evaluation import Episodes, RandomActor, bootstrap_interval, evaluate, play
from agent.experience import Batch, Episode, Experience, Priorities
from agent.learner import Learner
from agent.progress import Progress
from agent.trainer import Trainer
from agent.world_model import Imagination, WorldModel

__all__ = [
    "MOST_SEEDS",
    "PRESETS",
    "Agent",
    "AgentInfo",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "DivergedError",
    "Episode",
    "Episodes",
    "Experience",
    "ExperienceError",
    "Imagination",
    "Learner",
    "LearnerConfig",
    "ModelConfig",
    "ObservationError",
    "PlanningConfig",
    "Priorities",
    "ProcessError",
    "Progress",
    "RandomActor",
    "TrainConfig",
    "Trainer",
    "TrainingStopped",
    "WorldModel",
    "bootstrap_interval",
    "configure_torch",
    "describe",
    "evaluate",
    "play",
    "preset",
    "resume",
]
