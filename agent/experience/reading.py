"""Listing the episodes that a store holds, and reading one."""

import json
from pathlib import Path

import numpy as np

from agent.errors import ExperienceError
from agent.experience import records
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.held import Held
from agent.experience.loading import ungapped
from agent.experience.records import FRAME_WORDS, STEP
from agent.experience.sampling import Spans


def episodes(held: Held, alive: Spans) -> list[Episode]:
    """See `Experience.episodes`.

    Args:
        held: what the store holds.
        alive: the decisions that can be sampled.
    """
    segments, oldest = {s.number for s in alive.segments}, alive.oldest
    sizes = {s.number: (s.header.observation_dim, s.header.action_dim) for s in held.segments}
    table, found = held.table, []
    columns = [getattr(table, name)[: table.size].tolist() for name in table.COLUMNS]
    for i, (number, first, decisions, place, row, terminated, truncated, total) in enumerate(
        zip(*columns, strict=True)
    ):
        if place not in segments or (first < oldest and first + decisions <= oldest):
            continue
        notes = table.notes[i]
        found.append(
            Episode(
                number, notes.task, notes.seed, notes.action_repeat, *sizes[place], first, decisions, total,
                terminated, truncated, held.running and i == table.size - 1, dict(notes.actors),
                json.loads(json.dumps(notes.extra)), place, row,
            )
        )  # fmt: skip
    if held.begun is not None:
        notes, o = held.begun.notes, len(held.begun.observation)
        found.append(
            Episode(
                held.next_episode, notes.task, notes.seed, notes.action_repeat, o, _likely_actions(held, o),
                held.total, 0, 0.0, False, False, True, {}, json.loads(json.dumps(notes.extra)), 0, 0,
            )
        )  # fmt: skip
    return found


def read(held: Held, episode: Episode, folder: Path) -> EpisodeData:
    """See `Experience.read`.

    Args:
        held: what the store holds.
        episode: that is read.
        folder: of the store, for messages.
    """
    if held.begun is not None and not episode.segment and episode.number == held.next_episode:
        nothing = np.zeros(0, np.float32)
        actions = np.zeros((0, episode.action_dim), np.float32)
        return EpisodeData(held.begun.observation[None].copy(), actions, nothing, nothing > 0, nothing > 0, [])
    table, i = held.table, held.table.find(episode.number)
    place = next((s for s in held.segments if s.number == episode.segment), None)
    if i is None or place is None or table.row[i] != episode.row or table.segment[i] != episode.segment:
        raise ExperienceError(f"the experience in {str(folder)!r} holds no episode {episode.number} like this")
    length, reset = int(table.decisions[i]), np.array(episode.row)
    index = ungapped(reset + np.arange(length + 1), reset, place.gaps)
    rows = np.take(place.matrix, index, axis=0, mode="clip")
    kinds = records.row_kinds(rows)
    o, words = FRAME_WORDS + place.header.observation_dim, rows[1:, 2].view(np.uint32)
    unknown = length and int((words >> 16).max()) >= len(place.actors)
    if unknown or kinds[0] != records.RESET or any(kind != STEP for kind in kinds[1:]):
        raise ExperienceError(f"episode {episode.number} in {place.path.name} is damaged; `verify` tells what else is")
    flags = words >> 8 & 255
    return EpisodeData(
        rows[:, FRAME_WORDS:o].copy(),
        rows[1:, o:-1].copy(),
        rows[1:, -1].copy(),
        flags & records.TERMINATED != 0,
        flags & records.TRUNCATED != 0,
        [place.actors[k] for k in (words >> 16).tolist()],
    )


def _likely_actions(held: Held, observation_dim: int) -> int:
    """Elements of the actions of an episode that has none yet; 0 when nothing like it was stored before."""
    header = held.segments[-1].header if held.segments else None
    return header.action_dim if header and header.observation_dim == observation_dim else 0
