"""The index of a segment: its episodes as JSON, so that opening a finished one needn't look at each record."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

from agent.errors import CheckpointError, ExperienceError
from agent.experience.loading import checked_notes
from agent.experience.records import Header, encode_header
from agent.experience.segment import Segment, index_path
from agent.experience.table import Table
from agent.files import parse_json, read_safely, write_atomically

_LARGEST_INDEX = 2**28


def write_index(segment: Segment, table: dict[str, list[Any]]) -> int:
    """Writes the index beside a segment, whole or not at all.

    Args:
        segment: whose rows are all in `matrix`.
        table: columns, an entry an episode.

    Returns:
        Its size in bytes.
    """
    crc = zlib.crc32(segment.matrix[: segment.rows].data, zlib.crc32(encode_header(segment.header)))
    values = {
        "uuid": segment.header.uuid,
        "bytes": segment.bytes,
        "crc": crc,
        "actors": segment.actors,
        "gaps": segment.gaps,
        "episodes": table,
    }
    text = json.dumps(values, separators=(",", ":"))
    data = f'{{"checksum":{zlib.crc32(text.encode())},"index":{text}}}\n'.encode()
    try:
        write_atomically(index_path(segment.path), data)
    except OSError as error:
        error.filename = error.filename or str(index_path(segment.path))
        raise
    return len(data)


def read_index(path: Path, header: Header, size: int) -> dict[str, Any] | None:
    """What the index of a segment says.

    Args:
        path: of the segment.
        header: the segment's.
        size: of the segment's file in bytes.

    Returns:
        The index; None when there is none, or it is damaged, or belongs to another segment or state of it.

    Raises:
        ExperienceError: when a symbolic link is in its place.
    """
    file = index_path(path)
    if file.is_symlink():
        raise ExperienceError(f"{file} is a symbolic link; expected the file itself: copy it there")
    try:
        # The checksum is of the text as it stands, so no byte of it can be another one.
        data = read_safely(file, _LARGEST_INDEX)
        match = re.fullmatch(rb'\{"checksum":([0-9]{1,10}),"index":(.*)\}\n', data, re.DOTALL)
        if match is None or zlib.crc32(match[2]) != int(match[1]):
            return None
        values = parse_json(match[2], file)
        if values["uuid"] != header.uuid or values["bytes"] != size:
            return None
        return dict(values)
    except (CheckpointError, OSError, KeyError, TypeError, ValueError):
        return None


def to_index(segment: Segment, table: Table) -> dict[str, list[Any]]:
    """The episodes of a segment, column by column, as its index holds them."""
    part = table.of(segment.number)
    notes = table.notes[part]
    tasks = sorted({x.task for x in notes})
    columns: dict[str, list[Any]] = {
        name: getattr(table, name)[part].astype(int).tolist()
        for name in ("number", "row", "decisions", "terminated", "truncated")
    }
    return columns | {
        "returns": table.returns[part].tolist(),
        "tasks": list(tasks),
        "task": [tasks.index(x.task) for x in notes],
        "seed": [x.seed for x in notes],
        "action_repeat": [x.action_repeat for x in notes],
        "actors": [x.actors for x in notes],
        "extra": [x.extra for x in notes],
    }


def from_index(segment: Segment, table: Table, index: dict[str, Any]) -> bool:
    """Enters the episodes of an index into the table, if they fit the segment.

    Returns:
        Whether they did; otherwise nothing was entered.
    """
    try:
        actors, gaps, columns = index["actors"], index["gaps"], index["episodes"]
        tasks = columns["tasks"]
        if not all(isinstance(x, str) for x in (*actors, *tasks)) or not actors or actors[0]:
            return False
        if not all(type(x) is int and 0 <= x < segment.rows for x in gaps) or sorted(set(gaps)) != gaps:
            return False
        episodes, decisions, end = [], 0, 0
        rows = [
            columns[name]
            for name in (
                "number", "row", "decisions", "terminated", "truncated", "returns",
                "task", "seed", "action_repeat", "actors", "extra",
            )
        ]  # fmt: skip
        for i, row in enumerate(zip(*rows, strict=True)):
            number, begin, length, terminated, truncated, total, task, seed, repeat, counts, extra = row
            if type(begin) is not int or type(length) is not int or type(task) is not int:
                return False
            if number != segment.header.episode + i or begin < end or length < 0 or not 0 <= task < len(tasks):
                return False
            end = begin + 1 + length
            if terminated not in (0, 1) or truncated not in (0, 1) or end > segment.rows:
                return False
            if sum(counts.values()) != length or not counts.keys() <= set(actors):
                return False
            notes = checked_notes(tasks[task], seed, repeat, extra)
            notes.actors = dict(counts)
            episodes.append((number, decisions, begin, notes, length, float(total), terminated, truncated))
            decisions += length
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False
    for number, first, begin, notes, length, total, terminated, truncated in episodes:
        table.append(number, segment.header.first + first, segment.number, begin, notes)
        i = table.size - 1
        table.decisions[i], table.returns[i] = length, total
        table.terminated[i], table.truncated[i] = bool(terminated), bool(truncated)
    segment.actors, segment.gaps, segment.decisions = list(actors), list(gaps), decisions
    return True
