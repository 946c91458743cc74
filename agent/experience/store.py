"""The replay memory: an append-only store of experience on disk."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import ArrayLike

from agent.errors import ExperienceError
from agent.experience import lock, reading, rewinding, segment
from agent.experience.batch import Batch
from agent.experience.checking import notes_of, vector
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.evicting import Eviction
from agent.experience.held import Held
from agent.experience.opening import load
from agent.experience.priorities import Priorities
from agent.experience.sampling import Sampler, Spans
from agent.experience.verifying import verify
from agent.experience.writing import Writer

_LEFT_ASIDE = re.compile(r"\.[0-9]{6,18}\.(segment|json)\.[0-9]+\.tmp")


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
        self._eviction = Eviction(capacity, evict, segment_bytes)
        self._seed, self._identity = seed, uuid4().hex
        self._held = Held()
        self._sampler = Sampler()
        self._spans: Spans | None = None  # what `_alive` keeps until there is another segment
        self._writer: Writer | None = None
        self._lock: lock.Lock | None = None
        self._closed = False
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
    def total(self) -> int:
        """Decisions ever stored: the absolute number of the next one."""
        return self._held.total

    @property
    def identity(self) -> str:
        """32 hexadecimal digits that tell this store from others; settled when its first decision is stored."""
        return self._identity

    @property
    def disk_bytes(self) -> int:
        """Bytes that the segments and their indices take, those of evicted decisions included."""
        return sum(s.bytes + s.index_bytes for s in self._held.segments)

    @property
    def running(self) -> bool:
        """Whether an episode was begun and has not ended."""
        return self._held.running or self._held.begun is not None

    @property
    def episodes(self) -> list[Episode]:
        """The episodes of which at least one decision can be sampled, or that have none; in order.

        The last may be one that was only begun: it isn't on disk yet, and lies in segment 0.
        """
        return reading.episodes(self._held, self._alive())

    def read(self, episode: Episode) -> EpisodeData:
        """What happened in an episode, as far as it has come.

        Args:
            episode: one of `episodes`; those that were evicted since can be read until they are released.

        Raises:
            ExperienceError: when the store doesn't hold it, or it is damaged.
        """
        self._open()
        return reading.read(self._held, episode, self.folder)

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
        self._writing().begin(vector(observation, "an observation"), notes_of(task, seed, action_repeat, extra))

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
        self._writing().add(action, reward, next_observation, terminated, truncated, actor)

    def end_episode(self) -> None:
        """Marks the newest decision as its episode's last. An episode that has none yet leaves nothing behind.

        Raises:
            OSError: when the disk is full; the episode still runs then.
        """
        self._writing().end_episode()

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
        self._writing().append(data, notes_of(task, seed, action_repeat, extra))

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
        """Sequences of `length` decisions, beginning anywhere with the same probability, in the order they lie in.

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
        spans = alive
        if within is not None:
            first, last = within
            spans = alive.within(first, self.total if last is None else last)
        table, oldest = self._held.table, alive.oldest
        return self._sampler.sample(spans, table, oldest, self.total, batch_size, length, rng, device, priorities)

    @property
    def offset(self) -> dict[str, Any]:
        """Where the store is now, for `rewind`; as JSON takes it."""
        self._open()
        return rewinding.offset_of(self._held)

    def rewind(self, offset: dict[str, Any]) -> None:
        """Goes back to exactly what the store held at an `offset`; whatever came later is deleted.

        If that is interrupted, it can be repeated. An episode that was running then runs again.

        Raises:
            ExperienceError: when the store doesn't hold it (any more); nothing is changed then.
            OSError: when the disk fails.
        """
        writer = self._writing()
        then = rewinding.held_at(self._held, offset, self._eviction, self.folder)
        writer.close()
        try:
            rewinding.go_back(self._held, then, self.folder)
        except BaseException:
            try:
                self._read()
            except BaseException:
                self.close()  # what is on disk isn't known; nothing may be written after it
                raise
            raise
        self._take(then)

    def release(self) -> None:
        """Deletes the files of segments of which nothing can be sampled any more. `rewind` can't bring them back."""
        self._writing()
        held, alive = self._held, {s.number for s in self._alive().segments}
        gone = [s for s in held.segments[:-1] if s.number not in alive]
        for old in gone:
            segment.delete(old)
            held.segments.remove(old)
        if gone:
            segment.sync_folder(self.folder)
            held.table.keep({s.number for s in held.segments})
            self._spans = None

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        self._writing().sync()

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
        segments = self._held.segments
        return verify(self.folder, segments[-1] if segments and not segments[-1].sealed else None, on_progress)

    def close(self) -> None:
        """Gives the store back. An episode that is running stays as it is."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise ExperienceError(f"the experience in {str(self.folder)!r} was closed")

    def _writing(self) -> Writer:
        if self._writer is None:
            self._open()
            raise ExperienceError(f"the experience in {str(self.folder)!r} was opened to be read only")
        return self._writer

    def _read(self) -> None:
        """Opens what the folder holds. A reader keeps of what it has open whatever is still the same."""
        held = load(self.folder, self._held if self.read_only else None)
        self.dropped += [x for x in held.dropped if x not in self.dropped]
        # Only a rewind makes an episode go on; one that a crash cut stays as it is.
        held.cut = held.running and not self.read_only
        held.running = held.running and self.read_only
        self._take(held)

    def _take(self, held: Held) -> None:
        """Goes on from what is held."""
        self._held, self._spans = held, None
        if held.segments:
            header = held.segments[-1].header
            self._identity, self._seed = header.store, header.seed
        if not self.read_only:
            durable = self.durability == "episode"
            self._writer = Writer(self.folder, held, self._eviction, durable, self._identity, self._seed)

    def _alive(self) -> Spans:
        """All decisions that can be sampled."""
        segments, total = self._held.segments, self.total
        if not segments:
            return self._eviction.spans(segments)
        # The newest segment is always among them.
        if self._spans is None or self._spans.segments[-1] is not segments[-1]:
            self._spans = self._eviction.spans(segments)
        self._spans.last[-1] = total
        window = self._eviction.window(total)
        return self._spans.within(window, total) if window else self._spans
