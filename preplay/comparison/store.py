"""A comparison's folder: its settings in one file, and in another every episode that was played.

`episodes.jsonl` has a line for each finished episode and is only ever appended to, so whatever interrupts a comparison,
no finished episode is lost. A line that an interruption cut in two is dropped, and its episode is played again.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from agent import Episodes
from agent.files import write_atomically
from preplay.comparison.cells import MODELS, Cell
from preplay.errors import UsageError

SCHEMA = 1
SETTINGS, EPISODES = "comparison.json", "episodes.jsonl"
_SETTINGS: dict[str, Any] = {"fixed": dict, "sittings": list, "episodes": int, "checkpoint": str | None}
# What replaying asks for, of what all episodes have in common.
_FIXED: dict[str, Any] = {"task": str, "weights": str | None, "action_repeat": int, "device": str, "versions": dict}
# What a line says of its episode, what `Episodes` calls it, and what type it has.
_EPISODE = {
    "seed": ("seeds", int),
    "return": ("returns", float),
    "length": ("lengths", int),
    "terminated": ("terminated", bool),
    "unstable": ("unstable", bool),
    "misses": ("misses", int),
    "smoothness": ("smoothness", float),
    "saturated": ("saturated", float),
    "digest": ("digests", str),
}
# And of each of its decisions.
_DECISIONS = {"milliseconds": float, "rewards": float, "predicted": float, "evaluations": int}

Key = tuple[Cell, int]
"""An episode's place: its cell and its seed."""


def read_settings(folder: Path) -> dict[str, Any]:
    """What all episodes of a comparison have in common, and how it came about; see `preplay.compare`.

    Raises:
        UsageError: when the folder holds no comparison, or is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}")
    file = folder / SETTINGS
    try:
        settings = json.loads(file.read_text())
        schema = settings["schema"]
        if schema == SCHEMA:
            for wanted, where in ((_SETTINGS, settings), (_FIXED, settings["fixed"])):
                for key, kind in wanted.items():
                    if not isinstance(where[key], kind):
                        raise TypeError(key)
    except FileNotFoundError:
        raise UsageError(f"{str(folder)!r} holds no comparison: it has no {SETTINGS}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{file} is damaged; put back the file as it was, or choose another folder") from None
    if schema != SCHEMA:
        raise UsageError(f"{file} has schema {schema!r}; this version of preplay reads schema {SCHEMA}")
    return dict(settings)


def read_episodes(folder: Path) -> tuple[dict[Key, Episodes], int]:
    """The episodes in a comparison's folder, each of length one, and how many bytes of the file are whole.

    Raises:
        UsageError: when a line other than the last is damaged.
    """
    file = folder / EPISODES
    episodes: dict[Key, Episodes] = {}
    size = 0
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return episodes, size
    for number, text in enumerate(lines, 1):
        try:
            if not text.endswith(b"\n"):
                raise ValueError("it isn't whole")
            cell, episode = parse(text.decode())
        except (ValueError, RecursionError):
            if number == len(lines):  # what an interruption left
                break
            raise UsageError(
                f"line {number} of {file} is damaged; delete the line, and its episode will be played again"
            ) from None
        episodes.setdefault((cell, episode.seeds[0]), episode)
        size += len(text)
    return episodes, size


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Puts new settings in the place of the old ones, in one step."""
    write_atomically(folder / SETTINGS, (json.dumps({"schema": SCHEMA} | settings, indent=2) + "\n").encode())


class Journal:
    """`episodes.jsonl`, open for appending, by one process at a time.

    Args:
        folder: of the comparison.

    Attributes:
        episodes: what the file holds.

    Raises:
        UsageError: when another process has it open, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / EPISODES, "ab")  # noqa: SIM115
        try:
            if not _lock(self._file):
                raise UsageError(
                    f"another preplay compare is playing in {str(folder)!r}; wait, or choose another --out"
                )
            self.episodes, whole = read_episodes(folder)
            self._whole: int | None = whole
        except BaseException:
            self._file.close()
            raise

    def append(self, cell: Cell, episode: Episodes) -> None:
        """Adds an episode; when this returns it is on disk."""
        if self._whole is not None:  # what is left of a line that was never finished goes first
            self._file.truncate(self._whole)
            self._whole = None
        self.episodes[cell, episode.seeds[0]] = episode
        self._file.write((line(cell, episode) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def line(cell: Cell, episode: Episodes) -> str:
    """One episode as a line of JSON."""
    values: dict[str, Any] = {"cell": cell.to_dict()}
    values |= {key: getattr(episode, name)[0] for key, (name, _) in _EPISODE.items()}
    for key in _DECISIONS:
        # JSON has no NaN, which marks decisions without a plan of their own; diverged physics may earn infinities.
        values[key] = [x if math.isfinite(x) else None for x in getattr(episode, key)]
    values["milliseconds"] = [round(x, 4) for x in values["milliseconds"]]
    return json.dumps(values, separators=(",", ":"))


def parse(text: str) -> tuple[Cell, Episodes]:
    """The reverse of `line`.

    Raises:
        ValueError: when the text isn't an episode.
    """
    values = json.loads(text)
    try:
        cell = Cell(**values["cell"])
        fields: dict[str, Any] = {name: [_typed(values[key], kind)] for key, (name, kind) in _EPISODE.items()}
        for key, kind in _DECISIONS.items():
            fields[key] = [math.nan if x is None and kind is float else _typed(x, kind) for x in values[key]]
            if len(fields[key]) != values["length"]:
                raise ValueError(key)
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    texts = cell.model, cell.budget, cell.options
    sound = isinstance(cell.planner, str) and all(isinstance(text, str | None) for text in texts)
    if not sound or not isinstance(cell.horizon, int | None) or cell.model not in (None, *MODELS):
        raise ValueError("cell")
    try:
        cell.planning()
    except KeyError as error:
        raise ValueError(str(error)) from None
    return cell, Episodes(**fields)


def joined(episodes: Iterable[Episodes]) -> Episodes:
    """Episodes one after another."""
    together = Episodes()
    for episode in episodes:
        together.extend(episode)
    return together


def _typed(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _lock(file: Any) -> bool:
    """Takes a file for this process alone; a kill gives it back."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
