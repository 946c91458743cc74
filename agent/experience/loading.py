"""From a segment's records to the table of episodes, and from the table to a segment's index and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.experience import records
from agent.experience.records import ACTOR, END, EPISODE, RESET, STEP, TERMINATED, TRUNCATED, Record
from agent.experience.segment import Segment
from agent.experience.table import Notes, Table


@dataclass(frozen=True)
class Stop:
    """Where a segment's right records end.

    Attributes:
        row: after the last of them.
        records: how many there were.
        problem: what is wrong with what follows; empty when nothing follows.
        running: whether the last episode could go on.
    """

    row: int
    records: int
    problem: str
    running: bool


def describe(number: int, notes: Notes) -> dict[str, Any]:
    """What the EPISODE record says."""
    return {
        "episode": number,
        "task": notes.task,
        "seed": notes.seed,
        "action_repeat": notes.action_repeat,
        "extra": notes.extra,
    }


def parse_episode(values: Any) -> tuple[int, Notes]:
    """The reverse of `describe`.

    Raises:
        ValueError: when it is something else.
    """
    if not isinstance(values, dict) or values.keys() != {"episode", "task", "seed", "action_repeat", "extra"}:
        raise ValueError("it describes no episode")
    if type(values["episode"]) is not int or not 0 <= values["episode"] < 2**62:
        raise ValueError("its number makes no sense")
    return values["episode"], checked_notes(values["task"], values["seed"], values["action_repeat"], values["extra"])


def checked_notes(task: Any, seed: Any, action_repeat: Any, extra: Any) -> Notes:
    """What is known of an episode.

    Raises:
        ValueError: when something has the wrong type.
    """
    if not isinstance(task, str) or not isinstance(extra, dict) or type(seed) not in (int, type(None)):
        raise ValueError("its task, seed or extra has the wrong type")
    if type(action_repeat) is not int or action_repeat < 1:
        raise ValueError(f"its action_repeat is {action_repeat!r}, which is no whole number from 1 on")
    return Notes(task, seed, action_repeat, extra)


def absorb(segment: Segment, table: Table, start: int = 0, running: bool = False) -> Stop:
    """Enters the records of a segment into the table, up to the first that isn't right.

    Args:
        segment: its `rows` are all that were read; its `decisions`, `actors` and `gaps` are added to.
        table: the episodes of the segments before it, and of itself up to `start`.
        start: row to begin at.
        running: whether the table's last episode lies in this segment and could go on at `start`.
    """
    matrix, header = segment.matrix[: segment.rows], segment.header
    rewards = matrix[:, -1]
    pending: Notes | None = None
    stop, count, problem = start, 0, ""
    i = table.size - 1
    decisions, total = (int(table.decisions[i]), float(table.returns[i])) if running else (0, 0.0)

    def close() -> None:
        if i >= 0:
            table.decisions[i], table.returns[i] = decisions, total

    number = int(table.number[i]) + 1 if table.size and table.segment[i] == segment.number else header.episode
    for record in records.scan(matrix, header, start):
        kind = record.kind
        problem = record.problem
        if problem:
            break
        if kind == STEP:
            if not running or pending or record.actor >= len(segment.actors):
                problem = "it is a decision without an episode or an actor"
                break
            decisions += 1
            total += float(rewards[record.row])
            name = segment.actors[record.actor]
            actors = table.notes[i].actors
            actors[name] = actors.get(name, 0) + 1
            if record.flags:
                table.terminated[i] = bool(record.flags & TERMINATED)
                table.truncated[i] = bool(record.flags & TRUNCATED)
                running = False
            segment.decisions += 1
        elif kind == EPISODE:
            try:
                found, notes = parse_episode(records.decode_json(records.payload(matrix, record)))
            except ValueError as error:
                problem = str(error)
                break
            if pending or found != number:
                problem = "it is an episode out of order"
                break
            if running:
                close()
            running = False
            pending = notes
        elif kind == RESET:
            if pending is None:
                problem = "it is a first observation without an episode"
                break
            table.append(number, segment.last, segment.number, record.row, pending)
            i, decisions, total = table.size - 1, 0, 0.0
            number += 1
            running, pending = True, None
        elif kind == END:
            if not running or pending:
                problem = "it ends an episode that isn't running"
                break
            running = False
        elif kind == ACTOR:
            problem = _name_actor(segment, record, pending is not None)
            if problem:
                break
            if running:
                segment.gaps.extend(range(record.row, record.row + record.rows))
        if not running and kind in (STEP, END):
            close()
        count += 1
        # An episode is there once its first observation is.
        if not pending:
            stop = record.row + record.rows
    if running:
        close()
    if pending and not problem:
        problem = "an episode without its first observation"
    return Stop(stop, count - (pending is not None), problem, running and pending is None)


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


def ungapped(index: np.ndarray, resets: np.ndarray, gaps: list[int]) -> np.ndarray:
    """Rows counted from an episode's first observation, moved past the rows that name an actor.

    Args:
        index: (...) rows as if there were no such rows.
        resets: broadcastable to it, the rows of the episodes' first observations.
        gaps: those rows, in order.
    """
    for gap in gaps:
        index = index + ((resets < gap) & (gap <= index))
    return index


def _name_actor(segment: Segment, record: Record, pending: bool) -> str:
    """Enters a new actor's name; says what is wrong with it, if something is."""
    try:
        name = records.decode_json(records.payload(segment.matrix, record))
    except ValueError as error:
        return str(error)
    if pending or not isinstance(name, str) or record.actor != len(segment.actors) or name in segment.actors:
        return "it names an actor out of order"
    segment.actors.append(name)
    return ""
