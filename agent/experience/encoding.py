"""A whole episode as rows."""

from collections.abc import Sequence

import numpy as np

from agent.errors import ExperienceError
from agent.experience import records
from agent.experience.episodes import EpisodeData
from agent.experience.loading import describe
from agent.experience.records import (
    ACTOR,
    EPISODE,
    FRAME_WORDS,
    MOST_ACTORS,
    RESET,
    STEP,
    TERMINATED,
    TRUNCATED,
    Header,
)  # fmt: skip
from agent.experience.table import Notes


def encode_actor(number: int, name: str, stride: int) -> np.ndarray:
    """(rows, words) float32: an ACTOR record.

    Raises:
        ExperienceError: when the segment holds too many already.
    """
    if number >= MOST_ACTORS:
        raise ExperienceError(f"a segment of experience can't hold more than {MOST_ACTORS:,} different actors")
    return as_rows(records.encode_json(ACTOR, number, name, stride), stride)


def encode_episode(header: Header, number: int, notes: Notes, data: EpisodeData, actors: Sequence[int]) -> np.ndarray:
    """(rows, words) float32: the EPISODE record, then a row for each observation.

    Args:
        header: of the segment that it will lie in.
        number: the episode's.
        notes: what is known of it.
        data: what happened.
        actors: number of each decision's actor in the segment.
    """
    episode = as_rows(records.encode_json(EPISODE, 0, describe(number, notes), header.stride), header.stride)
    o, length = header.observation_dim, len(data.rewards)
    rows = np.zeros((len(episode) + length + 1, header.words), np.float32)
    rows[: len(episode)] = episode
    steps = rows[len(episode) :]
    steps[:, FRAME_WORDS : FRAME_WORDS + o] = data.observations
    steps[1:, FRAME_WORDS + o : -1] = data.actions
    steps[1:, -1] = data.rewards
    words = steps.view(np.uint32)
    records.seal_row(steps[0], words[0], RESET)
    flags = data.terminated * TERMINATED | data.truncated * TRUNCATED
    for row, word, flag, actor in zip(steps[1:], words[1:], flags.tolist(), actors, strict=True):
        records.seal_row(row, word, STEP | flag << 8 | actor << 16)
    return rows


def as_rows(data: bytes, stride: int) -> np.ndarray:
    """(rows, words) float32."""
    return np.frombuffer(data, np.float32).reshape(-1, stride // 4)
