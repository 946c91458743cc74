"""The replay memory: an append-only store of experience on disk."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import ArrayLike

from agent.errors import ExperienceError
from agent.experience import lock, records, segment
from agent.experience.batch import Batch
from agent.experience.checking import NOT_FINITE, checked, finite, notes_of, vector
from agent.experience.encoding import as_rows, encode_actor, encode_episode
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.loading import absorb, to_index, ungapped
from agent.experience.opening import Opened, load
from agent.experience.priorities import Priorities
from agent.experience.records import FRAME_WORDS, HEADER_BYTES, MOST_ACTORS, STEP, Header
from agent.experience.reservoir import kept
from agent.experience.sampling import Sampler, Spans
from agent.experience.segment import Appender, Segment
from agent.experience.table import Notes, Table
from agent.experience.verifying import verify
from agent.files import write_atomically

# A reservoir of fewer segments than this would forget in too large pieces.
_SLOTS = 32
_LEFT_ASIDE = re.compile(r"\.[0-9]{6,18}\.(segment|json)\.[0-9]+\.tmp")


@dataclass(frozen=True)
class _Begun:
    """An episode that has no decision yet; it is written with its first one, whose size isn't known before."""

    observation: np.ndarray
    notes: Notes


class Experience:
    """Everything that was seen, done and got, in a folder; each decision can be sampled as soon as it is added.

    Decisions have absolute numbers, counted from the store's beginning and never used twice. They lie in segments of
    about `segment_bytes`; an episode never spans two, and all decisions of one segment have the same size. One process
    can write, any number can read. Whatever `add` returned for survives a kill of the process.

    Args:
        folder: of the store; made when it is missing, unless `read_only`.
        capacity: decisions that are sampled; None for all. The others are evicted: they stay on disk until `release`.
        evict: `oldest`: the newest `capacity` decisions are sampled, exactly. `reservoir`: whole segments are kept,
            each that was ever finished with the same probability (algorithm R), besides the one being written. Then a
            segment has at most about capacity / 32 decisions, `capacity` is met to within about one, and what is
            evicted follows from `seed` and the number of segments alone.
        durability: `system` leaves it to the operating system when data reach the disk: they survive a kill of the
            process, but not a power cut. `episode` waits for the disk at each episode's end.
        segment_bytes: when a segment has reached this size, the next episode begins another one.
        read_only: changes nothing on disk and takes no lock; sees what a writer appends by `refresh`.
        seed: of the reservoir; kept in the store, so that it is only looked at where there is none yet.

    Attributes:
        folder: of the store.
        dropped: a sentence for each piece of damage that opening met and left out, or cut off.
        total: decisions ever stored: the absolute number of the next one.

    Raises:
        ExperienceError: when another process is writing to the folder, it is no store, or it is damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        capacity: int | None = None,
        evict: Literal["oldest", "reservoir"] = "oldest",
        durability: Literal["system", "episode"] = "system",
        segment_bytes: int = 32 * 2**20,
        read_only: bool = False,
        seed: int = 0,
    ) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least 1")
        if segment_bytes < 1:
            raise ValueError(f"segment_bytes is {segment_bytes}; it must be at least 1")
        if evict not in ("oldest", "reservoir") or durability not in ("system", "episode"):
            raise ValueError(f"evict is {evict!r} and durability {durability!r}; see Experience for what there is")
        if not 0 <= seed < 2**62:
            raise ValueError(f"seed is {seed}; it must be at least 0 and below 2^62")
        self.folder = Path(folder)
        self.capacity, self.evict, self.durability = capacity, evict, durability
        self.segment_bytes, self.read_only = segment_bytes, read_only
        self.dropped: list[str] = []
        self.total = self._next_episode = 0
        self._seed, self._identity = seed, uuid4().hex
        self._segments: list[Segment] = []
        self._table = Table()
        self._sampler = Sampler()
        self._spans: Spans | None = None
        self._appender: Appender | None = None
        self._lock: lock.Lock | None = None
        self._closed = False
        self._running = False
        self._begun: _Begun | None = None
        self._actors: dict[str, int] = {}
        if read_only:
            if not self.folder.is_dir() or not ((self.folder / lock.NAME).exists() or segment.numbers(self.folder)):
                raise ExperienceError(f"there is no experience in {str(self.folder)!r}")
            self._read()
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExperienceError(f"{str(self.folder)!r} can't be a folder for experience: {error.strerror}") from None
        self._lock = lock.Lock(self.folder)
        try:
            for name in os.listdir(self.folder):
                if _LEFT_ASIDE.fullmatch(name):
                    (self.folder / name).unlink(missing_ok=True)
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Experience":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._alive())

    def count(self, first: int = 0, last: int | None = None) -> int:
        """How many of the decisions with absolute numbers [first, last) can be sampled; None leaves the end open."""
        return len(self._alive().within(first, self.total if last is None else last))

    @property
    def identity(self) -> str:
        """32 hexadecimal digits that tell this store from others; settled when its first decision is stored."""
        return self._identity

    @property
    def disk_bytes(self) -> int:
        """Bytes that the segments and their indices take, those of evicted decisions included."""
        return sum(s.bytes + s.index_bytes for s in self._segments)

    @property
    def running(self) -> bool:
        """Whether an episode was begun and has not ended."""
        return self._running or self._begun is not None

    @property
    def episodes(self) -> list[Episode]:
        """The episodes of which at least one decision can be sampled, or that have none; in order.

        The last may be one that was only begun: it isn't on disk yet, and lies in segment 0.
        """
        alive, window = {s.number for s in self._alive().segments}, self._window()
        sizes = {s.number: (s.header.observation_dim, s.header.action_dim) for s in self._segments}
        table, found = self._table, []
        columns = [getattr(table, name)[: table.size].tolist() for name in table.COLUMNS]
        for i, (number, first, decisions, place, row, terminated, truncated, total) in enumerate(
            zip(*columns, strict=True)
        ):
            if place not in alive or (first < window and first + decisions <= window):
                continue
            notes = table.notes[i]
            found.append(
                Episode(
                    number, notes.task, notes.seed, notes.action_repeat, *sizes[place], first, decisions, total,
                    terminated, truncated, self._running and i == table.size - 1, dict(notes.actors),
                    json.loads(json.dumps(notes.extra)), place, row,
                )
            )  # fmt: skip
        if self._begun is not None:
            notes, o = self._begun.notes, len(self._begun.observation)
            found.append(
                Episode(
                    self._next_episode, notes.task, notes.seed, notes.action_repeat, o, self._likely_actions(o),
                    self.total, 0, 0.0, False, False, True, {}, json.loads(json.dumps(notes.extra)), 0, 0,
                )
            )  # fmt: skip
        return found

    def read(self, episode: Episode) -> EpisodeData:
        """What happened in an episode, as far as it has come.

        Args:
            episode: one of `episodes`; those that were evicted since can be read until they are released.

        Raises:
            ExperienceError: when the store doesn't hold it, or it is damaged.
        """
        self._open()
        if self._begun is not None and not episode.segment and episode.number == self._next_episode:
            nothing = np.zeros(0, np.float32)
            actions = np.zeros((0, episode.action_dim), np.float32)
            return EpisodeData(self._begun.observation[None].copy(), actions, nothing, nothing > 0, nothing > 0, [])
        i = self._table.find(episode.number)
        place = next((s for s in self._segments if s.number == episode.segment), None)
        if i is None or place is None or self._table.row[i] != episode.row or self._table.segment[i] != episode.segment:
            raise ExperienceError(f"the experience in {str(self.folder)!r} holds no episode {episode.number} like this")
        length, reset = int(self._table.decisions[i]), np.array(episode.row)
        index = ungapped(reset + np.arange(length + 1), reset, place.gaps)
        rows = np.take(place.matrix, index, axis=0, mode="clip")
        kinds = records.row_kinds(rows)
        o, words = FRAME_WORDS + place.header.observation_dim, rows[1:, 2].view(np.uint32)
        unknown = length and int((words >> 16).max()) >= len(place.actors)
        if unknown or kinds[0] != records.RESET or any(kind != STEP for kind in kinds[1:]):
            raise ExperienceError(
                f"episode {episode.number} in {place.path.name} is damaged; `verify` tells what else is"
            )
        flags = words >> 8 & 255
        return EpisodeData(
            rows[:, FRAME_WORDS:o].copy(),
            rows[1:, o:-1].copy(),
            rows[1:, -1].copy(),
            flags & records.TERMINATED != 0,
            flags & records.TRUNCATED != 0,
            [place.actors[k] for k in (words >> 16).tolist()],
        )

    def begin(
        self,
        observation: ArrayLike,
        *,
        task: str,
        seed: int | None = None,
        action_repeat: int = 1,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Begins an episode, and ends the one that is running. It is stored with its first decision.

        Args:
            observation: (O,) the first one.
            task: what is played.
            seed: that the environment was reset with.
            action_repeat: environment steps a decision.
            extra: anything else worth knowing, as JSON takes it.

        Raises:
            ValueError: when the observation isn't finite or something can't be stored.
            OSError: when the disk is full; the running episode may have been ended already.
        """
        self._writable()
        notes = notes_of(task, seed, action_repeat, extra)
        first = vector(observation, "an observation").copy()
        if not np.isfinite(first).all():
            raise ValueError(NOT_FINITE)
        self.end_episode()
        self._begun = _Begun(first, notes)

    def add(
        self,
        action: ArrayLike,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool,
        actor: str = "",
    ) -> None:
        """Stores one decision of the running episode. When this returns, a kill doesn't lose it.

        Args:
            action: (A,) in [-1, 1].
            reward: what it earned.
            next_observation: (O,) after it.
            terminated: the episode is over and nothing more can be earned.
            truncated: the episode was cut off; more could have been earned.
            actor: who took it.

        Raises:
            ValueError: when something is not finite, which would spoil every later update, has the wrong shape, or no
                episode was begun. Nothing is stored then.
            OSError: when the disk is full. Nothing is stored, and it may work later.
        """
        self._writable()
        if self._begun is not None:
            self._add_first(self._begun, action, reward, next_observation, terminated, truncated, actor)
            return
        if not self._running:
            raise ValueError("no episode is running; `begin` one before decisions are added")
        place = self._segments[-1]
        header = place.header
        o = FRAME_WORDS + header.observation_dim
        action = vector(action, "an action", header.action_dim)
        next_observation = vector(next_observation, "an observation", header.observation_dim)
        name = self._actors.get(actor)
        naming = None
        if name is None:
            name = len(place.actors)
            naming = self._name(name, actor, header.stride)
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
        self._write(place.matrix[begin:end], bool(flags))
        if naming is not None:
            place.actors.append(actor)
            place.gaps.extend(range(begin, end - 1))
            self._actors[actor] = name
        table = self._table
        i = table.size - 1
        place.rows = end
        place.decisions += 1
        table.decisions[i] += 1
        table.returns[i] += row[-1]
        counts = table.notes[i].actors
        counts[actor] = counts.get(actor, 0) + 1
        self.total += 1
        if flags:
            table.terminated[i], table.truncated[i] = terminated, truncated
            self._running = False

    def end_episode(self) -> None:
        """Marks the newest decision as its episode's last. An episode that has none yet leaves nothing behind.

        Raises:
            OSError: when the disk is full; the episode still runs then.
        """
        self._writable()
        self._begun = None
        if not self._running:
            return
        place = self._segments[-1]
        place.reserve(1)
        row = place.matrix[place.rows : place.rows + 1]
        row[:] = as_rows(records.encode_end(place.header.stride), place.header.stride)
        self._write(row, True)
        place.rows += 1
        self._running = False

    def append(
        self,
        data: EpisodeData,
        *,
        task: str,
        seed: int | None = None,
        action_repeat: int = 1,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Stores a whole episode, in one go; ends the one that is running.

        Args:
            data: what happened.
            task: what was played.
            seed: that the environment was reset with.
            action_repeat: environment steps a decision.
            extra: anything else worth knowing, as JSON takes it.

        Raises:
            ValueError: when something is not finite or doesn't fit together. Nothing is stored then.
            OSError: when the disk is full; the running episode may have been ended already.
        """
        self._writable()
        notes = notes_of(task, seed, action_repeat, extra)
        data = checked(data)
        self.end_episode()
        self._store(notes, data, ends=True)

    def sample(
        self,
        batch_size: int,
        length: int,
        rng: np.random.Generator,
        device: torch.device | str = "cpu",
        *,
        within: tuple[int, int | None] | None = None,
        priorities: Priorities | None = None,
    ) -> Batch:
        """Sequences of `length` decisions, beginning anywhere with the same probability.

        Args:
            batch_size: sequences.
            length: decisions of each.
            rng: where they begin.
            device: where the batch goes.
            within: absolute numbers [first, last) of the decisions to sample from, as if there were no others; None for
                an end leaves it open.
            priorities: how likely each decision is to be first, instead of all equally.

        Raises:
            ValueError: when there is nothing to sample.
            ExperienceError: when the decisions have different sizes, of several tasks.
        """
        self._open()
        alive = self._alive()
        first, last = (0, None) if within is None else within
        spans = alive.within(first, self.total if last is None else last)
        oldest = int(alive.first[0]) if alive.segments else 0
        return self._sampler.sample(spans, self._table, oldest, self.total, batch_size, length, rng, device, priorities)

    @property
    def offset(self) -> dict[str, Any]:
        """Where the store is now, for `rewind`; as JSON takes it."""
        self._open()
        newest = self._segments[-1] if self._segments else None
        begun = self._begun
        return {
            "segment": newest.number if newest else 0,
            "uuid": newest.header.uuid if newest else "",
            "bytes": newest.bytes if newest else 0,
            "total": self.total,
            "running": self._running,
            "begun": None
            if begun is None
            else {
                "observation": begun.observation.tolist(),
                "task": begun.notes.task,
                "seed": begun.notes.seed,
                "action_repeat": begun.notes.action_repeat,
                "extra": json.loads(json.dumps(begun.notes.extra)),
            },
        }

    def rewind(self, offset: dict[str, Any]) -> None:
        """Goes back to exactly what the store held at an `offset`; whatever came later is deleted.

        If that is interrupted, it can be repeated. An episode that was running then runs again.

        Raises:
            ExperienceError: when the store doesn't hold it (any more); nothing is changed then.
            OSError: when the disk fails.
        """
        self._writable()
        place, running, begun = self._target(offset)
        later = [s for s in self._segments if place is None or s.number > place.number]
        self._stop_appending()
        try:
            for old in reversed(later):
                self._delete(old)
            segment.sync_folder(self.folder)
            if place is not None:
                old = next(s for s in self._segments if s.number == place.number)
                segment.index_path(old.path).unlink(missing_ok=True)
                if os.stat(old.path).st_size != place.bytes:
                    # Not cut short in place: a reader may have it mapped.
                    rows = place.matrix[: place.rows].tobytes()
                    write_atomically(place.path, records.encode_header(place.header) + rows)
                segment.sync_folder(self.folder)
        finally:
            self._read()
        self._running, self._begun = running, begun

    def release(self) -> None:
        """Deletes the files of segments of which nothing can be sampled any more. `rewind` can't bring them back."""
        self._writable()
        alive = {s.number for s in self._alive().segments}
        gone = [s for s in self._segments[:-1] if s.number not in alive]
        for old in gone:
            self._delete(old)
            self._segments.remove(old)
        if gone:
            segment.sync_folder(self.folder)
            self._table.keep({s.number for s in self._segments})
            self._spans = None

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        self._writable()
        if self._appender is not None:
            self._appender.sync()
            segment.sync_folder(self.folder)

    def refresh(self) -> None:
        """Sees what a writer appended or changed since; for those that only read."""
        self._open()
        if self.read_only:
            self._read()

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Checks every record of every segment on disk, and the indices.

        Args:
            on_progress: called with the bytes that were checked and those that there are.

        Returns:
            A sentence for each piece of damage, naming the file, the record and the byte; empty when all is well.
        """
        self._open()
        newest = self._segments[-1] if self._segments and not self._segments[-1].sealed else None
        return verify(self.folder, newest, on_progress)

    def close(self) -> None:
        """Gives the store back. An episode that is running stays as it is."""
        self._stop_appending()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise ExperienceError(f"the experience in {str(self.folder)!r} was closed")

    def _writable(self) -> None:
        self._open()
        if self.read_only:
            raise ExperienceError(f"the experience in {str(self.folder)!r} was opened to be read only")

    def _read(self) -> None:
        """Opens what the folder holds. A reader keeps of what it has open whatever is still the same."""
        before = Opened(self._segments, self._table, self._running) if self.read_only else None
        opened = load(self.folder, before)
        self.dropped += [x for x in opened.dropped if x not in self.dropped]
        self._segments, self._table, self._spans = opened.segments, opened.table, None
        # Only a rewind makes an episode go on; one that a crash cut stays as it is.
        self._running, self._begun, self._actors = opened.running and self.read_only, None, {}
        self.total = self._next_episode = 0
        if not self._segments:
            return
        newest, table = self._segments[-1], self._table
        self.total, self._identity, self._seed = newest.last, newest.header.store, newest.header.seed
        held = table.size and table.segment[table.size - 1] == newest.number
        self._next_episode = int(table.number[table.size - 1]) + 1 if held else newest.header.episode
        if not self.read_only and not newest.sealed:
            self._appender = Appender(newest)
            self._actors = {name: k for k, name in enumerate(newest.actors)}

    def _window(self) -> int:
        """The absolute number below which decisions are evicted for their age."""
        return max(self.total - self.capacity, 0) if self.capacity is not None and self.evict == "oldest" else 0

    def _alive(self) -> Spans:
        """All decisions that can be sampled."""
        if self._spans is None:
            held = self._segments
            numbers = self._kept(held[-1].number) if held else None
            alive = [s for s in held if numbers is None or s.number in numbers]
            first, last = (
                np.array([s.header.first for s in alive], np.int64),
                np.array([s.last for s in alive], np.int64),
            )
            self._spans = Spans(alive, first, last)
        if self._segments:  # the newest segment is always among them
            self._spans.last[-1] = self.total
        window = self._window()
        return self._spans.within(window, self.total) if window else self._spans

    def _kept(self, newest: int) -> set[int] | None:
        """The segments that are kept while the one of this number is the newest; None for all."""
        if self.capacity is None or self.evict == "oldest":
            return None
        rows = self._most_rows(self._segments[-1].header.store_words)
        return kept(self._seed, max(self.capacity // rows, 1), range(1, newest)) | {newest}

    def _most_rows(self, words: int) -> int:
        """Rows of so many words that a segment has when the next episode begins another one, at the least."""
        rows = max((self.segment_bytes - HEADER_BYTES) // (4 * words), 1)
        if self.capacity is not None and self.evict == "reservoir":
            rows = min(rows, max(self.capacity // _SLOTS, 1))
        return rows

    def _likely_actions(self, observation_dim: int) -> int:
        """Elements of the actions of an episode that has none yet; 0 when nothing like it was stored before."""
        header = self._segments[-1].header if self._segments else None
        return header.action_dim if header and header.observation_dim == observation_dim else 0

    def _is_full(self, place: Segment) -> bool:
        return place.bytes >= self.segment_bytes or place.rows >= self._most_rows(place.header.words)

    def _add_first(
        self,
        begun: _Begun,
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
        self._begun, self._running = None, not (terminated or truncated)

    def _store(self, notes: Notes, data: EpisodeData, ends: bool) -> None:
        """Writes an episode in one go, into a new segment if it has to be; no other one is running."""
        o, a = data.observations.shape[1], data.actions.shape[1]
        place = self._segments[-1] if self._appender is not None else None
        if place and ((place.header.observation_dim, place.header.action_dim) != (o, a) or self._is_full(place)):
            self._seal(place)
            place = None
        names: list[str] = []
        made = place is None
        if place is None:
            place, names = self._fresh(o, a)
        stride, known = place.header.stride, {name: k for k, name in enumerate(place.actors)}
        parts = []
        # An actor is named before the episode, so that nothing comes between its rows.
        for name in dict.fromkeys([*names, *data.actors]):
            if name not in known:
                parts.append(self._name(len(known), name, stride))
                known[name] = len(known)
        actors = [known[name] for name in data.actors]
        parts.append(encode_episode(place.header, self._next_episode, notes, data, actors))
        reset = sum(map(len, parts)) - len(data.rewards) - 1
        terminated, truncated = (bool(x[-1:].any()) for x in (data.terminated, data.truncated))
        if ends and not terminated and not truncated:
            parts.append(as_rows(records.encode_end(stride), stride))
        block = np.concatenate(parts)
        sync = self.durability == "episode" and (ends or terminated or truncated)
        if made:
            content = records.encode_header(place.header) + block.tobytes()
            self._appender = Appender(place, content, self.durability == "episode")
            self._segments.append(place)
            self._spans = None
        else:
            assert self._appender is not None
            self._appender.cut(place.bytes)
            self._appender.write(block, sync)
        place.reserve(len(block))
        place.matrix[place.rows : place.rows + len(block)] = block
        first = place.last
        table = self._table
        table.append(self._next_episode, first, place.number, place.rows + reset, notes)
        i = table.size - 1
        table.decisions[i], table.terminated[i], table.truncated[i] = len(data.rewards), terminated, truncated
        for reward, actor in zip(data.rewards.tolist(), data.actors, strict=True):
            table.returns[i] += reward
            notes.actors[actor] = notes.actors.get(actor, 0) + 1
        place.rows += len(block)
        place.decisions += len(data.rewards)
        place.actors = list(known)
        self._actors = known
        self.total += len(data.rewards)
        self._next_episode += 1

    def _fresh(self, observation_dim: int, action_dim: int) -> tuple[Segment, list[str]]:
        """A segment to be written, and the names of actors that are likely to be needed in it."""
        newest = self._segments[-1] if self._segments else None
        words = records.row_words(observation_dim, action_dim)
        header = Header(
            uuid4().hex, self._identity, observation_dim, action_dim, self.total, self._next_episode, self._seed,
            newest.header.store_words if newest else words,
        )  # fmt: skip
        number = newest.number + 1 if newest else 1
        path = segment.segment_path(self.folder, number)
        names = []
        if newest:
            used = {name for notes in self._table.notes[self._table.of(newest.number)] for name in notes.actors}
            names = [name for name in newest.actors if name in used]
        return Segment(path, number, header, np.empty((0, words), np.float32), 0, False), names

    def _name(self, number: int, name: str, stride: int) -> np.ndarray:
        """The record that names an actor."""
        if number >= MOST_ACTORS:
            raise ExperienceError(f"a segment of experience can't hold more than {MOST_ACTORS:,} different actors")
        return encode_actor(number, name, stride)

    def _seal(self, place: Segment) -> None:
        """Finishes the segment being written: from now on it is read from the disk."""
        assert self._appender is not None
        self._appender.sync()
        place.index_bytes = segment.write_index(place, to_index(place, self._table))
        file = segment.open_file(place.path)
        try:
            place.matrix = segment.map_rows(file, place.header)
        finally:
            os.close(file)
        place.sealed = True
        self._stop_appending()

    def _write(self, rows: np.ndarray, ends: bool) -> None:
        assert self._appender is not None
        self._appender.cut(self._segments[-1].bytes)
        self._appender.write(rows, ends and self.durability == "episode")

    def _stop_appending(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def _delete(self, place: Segment) -> None:
        segment.index_path(place.path).unlink(missing_ok=True)
        place.path.unlink(missing_ok=True)

    def _target(self, offset: dict[str, Any]) -> tuple[Segment | None, bool, _Begun | None]:
        """The segment of an offset as it was then, whether an episode was running, and one that had no decision yet."""
        try:
            number, uuid, size, total = (offset[key] for key in ("segment", "uuid", "bytes", "total"))
            running, begun = offset.get("running", False), offset.get("begun")
            if not all(type(x) is int for x in (number, size, total)) or type(running) is not bool:
                raise ValueError
            if begun is not None:
                notes = notes_of(begun["task"], begun["seed"], begun["action_repeat"], begun["extra"])
                begun = _Begun(vector(begun["observation"], "an observation"), notes)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ExperienceError(f"{str(offset)[:100]} is no offset of a store of experience") from None
        if number == 0 and size == 0 and total == 0 and not running:
            return None, False, begun
        missing = ExperienceError(
            f"the experience in {str(self.folder)!r} can't go back to {total:,} decisions: "
            "it doesn't hold what it held then"
        )
        old = next((s for s in self._segments if s.number == number and s.header.uuid == uuid), None)
        if old is None or not HEADER_BYTES < size <= old.bytes or (size - HEADER_BYTES) % old.header.stride:
            raise missing
        rows = (size - HEADER_BYTES) // old.header.stride
        place = Segment(old.path, number, old.header, old.matrix[:rows], rows, False)
        stop = absorb(place, Table())
        if stop.row != rows or stop.problem or place.last != total or (running and not stop.running):
            raise missing
        # Nothing that could be sampled then may have been released.
        held = {s.number for s in self._segments}
        needed = self._kept(number) or set()
        window = total - self.capacity if self.capacity is not None and self.evict == "oldest" else None
        if not needed <= held or (window is not None and max(window, 0) < self._segments[0].header.first):
            raise missing
        return place, running, begun
