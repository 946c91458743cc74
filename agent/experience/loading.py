"""From a segment's records to the table of episodes."""

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
    rewards = matrix[start:, -1].tolist()
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
            total += rewards[record.row - start]
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
