"""The replay memory: a persistent, append-only store of experience on disk."""

from agent.experience.batch import Batch
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.priorities import Priorities
from agent.experience.store import Experience

__all__ = ["Batch", "Episode", "EpisodeData", "Experience", "Priorities"]
