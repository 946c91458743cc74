"""Writing to a store: decisions and episodes go into the newest segment, or into another one when that is full."""

import os
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from agent.experience import records, segment
from agent.experience.appending import Appender
from agent.experience.checking import NOT_FINITE, checked, finite, vector
from agent.experience.encoding import as_rows, encode_actor, encode_episode
from agent.experience.episodes import EpisodeData
from agent.experience.evicting import Eviction
from agent.experience.held import Begun, Held
from agent.experience.index import to_index, write_index
from agent.experience.records import FRAME_WORDS, STEP, Header
from agent.experience.segment import Segment
from agent.experience.table import Notes


class Writer:
    """Appends to what a store holds, on disk and in memory; after an error both are as they were.

    Args:
        folder: of the store.
        held: what it holds.
        eviction: says when a segment is full.
        durable: waits for the disk at each episode's end.
        identity: of the store.
        seed: of the store.
    """

    def __init__(self, folder: Path, held: Held, eviction: Eviction, durable: bool, identity: str, seed: int) -> None:
        self._folder, self._held, self._eviction, self._durable = folder, held, eviction, durable
        self._identity, self._seed = identity, seed
        self._appender: Appender | None = None  # to the newest segment, when that isn't sealed
        self._actors: dict[str, int] = {}  # their numbers in that segment
        if held.segments and not held.segments[-1].sealed:
            self._appender = Appender(held.segments[-1])
            self._actors = {name: k for k, name in enumerate(held.segments[-1].actors)}

    def begin(self, observation: np.ndarray, notes: Notes) -> None:
        """See `Experience.begin`."""
        first = observation.copy()
        if not np.isfinite(first).all():
            raise ValueError(NOT_FINITE)
        self.end_episode()
        self._held.begun = Begun(first, notes)

    def add(
        self,
        action: ArrayLike,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool,
        actor: str,
    ) -> None:
        """See `Experience.add`."""
        held = self._held
        if held.begun is not None:
            self._add_first(held.begun, action, reward, next_observation, terminated, truncated, actor)
            return
        if not held.running:
            raise ValueError("no episode is running; `begin` one before decisions are added")
        assert self._appender is not None
        place, table = held.segments[-1], held.table
        header = place.header
        o = FRAME_WORDS + header.observation_dim
        action = vector(action, "an action", header.action_dim)
        next_observation = vector(next_observation, "an observation", header.observation_dim)
        name, naming = self._actors.get(actor), None
        if name is None:
            name = len(place.actors)
            naming = encode_actor(name, actor, header.stride)
        taken = 1 if naming is None else len(naming) + 1
        place.reserve(taken)
        begin, end = place.rows, place.rows + taken
        row = place.matrix[end - 1]
        row[FRAME_WORDS:o] = next_observation
        row[o:-1] = action
        row[-1] = finite(reward)
        if not np.isfinite(row[FRAME_WORDS:]).all():
            raise ValueError(NOT_FINITE)
        flags = (records.TERMINATED if terminated else 0) | (records.TRUNCATED if truncated else 0)
        records.seal_row(row, row.view(np.uint32), STEP | flags << 8 | name << 16)
        if naming is not None:
            place.matrix[begin : end - 1] = naming
        self._appender.write(place.matrix[begin:end], place.bytes, self._durable and bool(flags))
        if naming is not None:
            place.actors.append(actor)
            place.gaps.extend(range(begin, end - 1))
            self._actors[actor] = name
        place.rows = end
        place.decisions += 1
        i = table.size - 1
        table.decisions[i] += 1
        table.returns[i] += row[-1]
        counts = table.notes[i].actors
        counts[actor] = counts.get(actor, 0) + 1
        if flags:
            table.terminated[i], table.truncated[i] = terminated, truncated
            held.running = False

    def end_episode(self) -> None:
        """See `Experience.end_episode`."""
        self._held.begun = None
        if not self._held.running:
            return
        assert self._appender is not None
        place = self._held.segments[-1]
        place.reserve(1)
        row = place.matrix[place.rows : place.rows + 1]
        row[:] = as_rows(records.encode_end(place.header.stride), place.header.stride)
        self._appender.write(row, place.bytes, self._durable)
        place.rows += 1
        self._held.running = False

    def append(self, data: EpisodeData, notes: Notes) -> None:
        """See `Experience.append`."""
        data = checked(data)
        self.end_episode()
        self._store(notes, data, ends=True)

    def sync(self) -> None:
        """See `Experience.flush`."""
        if self._appender is not None:
            self._appender.sync()
            segment.sync_folder(self._folder)

    def close(self) -> None:
        """Gives the newest segment's file back."""
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _add_first(
        self,
        begun: Begun,
        action: ArrayLike,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool,
        actor: str,
    ) -> None:
        """Stores an episode with its first decision."""
        data = EpisodeData(
            np.stack([begun.observation, vector(next_observation, "an observation", len(begun.observation))]),
            vector(action, "an action")[None],
            np.array([finite(reward)], np.float32),
            np.array([bool(terminated)]),
            np.array([bool(truncated)]),
            [actor],
        )
        self._store(begun.notes, checked(data), ends=False)
        self._held.begun, self._held.running = None, not (terminated or truncated)

    def _store(self, notes: Notes, data: EpisodeData, ends: bool) -> None:
        """Writes an episode in one go, into a new segment if it has to be; no other one is running."""
        held = self._held
        place, names = self._place_for(data)
        stride, number = place.header.stride, held.next_episode
        known = {name: k for k, name in enumerate(place.actors)}
        parts = []
        if held.cut and held.segments[-1] is place:
            # Without it an actor that is named next would seem to be named within that episode.
            parts.append(as_rows(records.encode_end(stride), stride))
        # An actor is named before the episode, so that nothing comes between its rows.
        for name in dict.fromkeys([*names, *data.actors]):
            if name not in known:
                parts.append(encode_actor(len(known), name, stride))
                known[name] = len(known)
        parts.append(encode_episode(place.header, number, notes, data, [known[name] for name in data.actors]))
        reset = sum(map(len, parts)) - len(data.rewards) - 1
        terminated, truncated = (bool(x[-1:].any()) for x in (data.terminated, data.truncated))
        over = terminated or truncated
        if ends and not over:
            parts.append(as_rows(records.encode_end(stride), stride))
        block = np.concatenate(parts)
        if self._appender is None:
            content = records.encode_header(place.header) + block.tobytes()
            self._appender = Appender(place, content, self._durable)
            held.segments.append(place)
        else:
            self._appender.write(block, place.bytes, self._durable and (ends or over))
        held.cut = False
        place.reserve(len(block))
        place.matrix[place.rows : place.rows + len(block)] = block
        table = held.table
        table.append(number, place.last, place.number, place.rows + reset, notes)
        i = table.size - 1
        table.decisions[i], table.terminated[i], table.truncated[i] = len(data.rewards), terminated, truncated
        for reward, actor in zip(data.rewards.tolist(), data.actors, strict=True):
            table.returns[i] += reward
            notes.actors[actor] = notes.actors.get(actor, 0) + 1
        place.rows += len(block)
        place.decisions += len(data.rewards)
        place.actors, self._actors = list(known), known

    def _place_for(self, data: EpisodeData) -> tuple[Segment, list[str]]:
        """The segment that an episode goes into, and the names of actors that are likely to be needed in a new one."""
        held, sizes = self._held, (data.observations.shape[1], data.actions.shape[1])
        newest = held.segments[-1] if held.segments else None
        if newest and self._appender is not None:
            header = newest.header
            if (header.observation_dim, header.action_dim) == sizes and not self._eviction.is_full(newest):
                return newest, []
            self._seal(newest)
        words = records.row_words(*sizes)
        header = Header(
            uuid4().hex, self._identity, *sizes, held.total, held.next_episode, self._seed,
            newest.header.store_words if newest else words,
        )  # fmt: skip
        number, names = 1, []
        if newest:
            number = newest.number + 1
            used = {name for notes in held.table.notes[held.table.of(newest.number)] for name in notes.actors}
            names = [name for name in newest.actors if name in used]
        path = segment.segment_path(self._folder, number)
        return Segment(path, number, header, np.empty((0, words), np.float32), 0, False), names

    def _seal(self, place: Segment) -> None:
        """Finishes the segment being written: from now on it is read from the disk."""
        assert self._appender is not None
        self._appender.sync()
        place.index_bytes = write_index(place, to_index(place, self._held.table))
        file = segment.open_file(place.path)
        try:
            place.matrix = segment.map_rows(file, place.header)
        finally:
            os.close(file)
        place.sealed = True
        self.close()
