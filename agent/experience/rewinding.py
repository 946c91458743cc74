"""Saying where a store is, and going back there."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

from agent.errors import ExperienceError
from agent.experience import records, segment
from agent.experience.checking import notes_of, vector
from agent.experience.evicting import Eviction
from agent.experience.held import Begun, Held
from agent.experience.loading import absorb
from agent.experience.records import HEADER_BYTES
from agent.experience.segment import Segment
from agent.experience.table import Table
from agent.files import write_atomically


def offset_of(held: Held) -> dict[str, Any]:
    """See `Experience.offset`."""
    newest = held.segments[-1] if held.segments else None
    begun = None
    if held.begun is not None:
        notes = held.begun.notes
        begun = {
            "observation": held.begun.observation.tolist(),
            "task": notes.task,
            "seed": notes.seed,
            "action_repeat": notes.action_repeat,
            "extra": json.loads(json.dumps(notes.extra)),
        }
    return {
        "segment": newest.number if newest else 0,
        "uuid": newest.header.uuid if newest else "",
        "bytes": newest.bytes if newest else 0,
        "total": held.total,
        "running": held.running,
        "begun": begun,
    }


def held_at(held: Held, offset: dict[str, Any], eviction: Eviction, folder: Path) -> Held:
    """What a store held at an offset.

    Args:
        held: what it holds now; it is left as it is.
        offset: that was taken then.
        eviction: what has to be there.
        folder: of the store, for messages.

    Raises:
        ExperienceError: when it doesn't hold that any more, or `offset` is none.
    """
    try:
        number, uuid, size, total = (offset[key] for key in ("segment", "uuid", "bytes", "total"))
        running, begun = offset.get("running", False), offset.get("begun")
        if not all(type(x) is int for x in (number, size, total)) or type(running) is not bool:
            raise ValueError
        if begun is not None:
            notes = notes_of(begun["task"], begun["seed"], begun["action_repeat"], begun["extra"])
            begun = Begun(vector(begun["observation"], "an observation"), notes)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ExperienceError(f"{str(offset)[:100]} is no offset of a store of experience") from None
    if number == 0 and size == 0 and total == 0 and not running:
        return Held(begun=begun)
    missing = ExperienceError(
        f"the experience in {str(folder)!r} can't go back to {total:,} decisions: it doesn't hold what it held then"
    )
    old = next((s for s in held.segments if s.number == number and s.header.uuid == uuid), None)
    if old is None or not HEADER_BYTES < size <= old.bytes or (size - HEADER_BYTES) % old.header.stride:
        raise missing
    earlier = [s for s in held.segments if s.number < number]
    table = Table()
    for place in earlier:
        table.copy(held.table, place.number)
    rows = (size - HEADER_BYTES) // old.header.stride
    place = Segment(old.path, number, old.header, old.matrix[:rows], rows, False)
    stop = absorb(place, table)
    if stop.row != rows or stop.problem or place.last != total or (running and not stop.running):
        raise missing
    if any(one.cut_short(other.number, other.header) for one, other in itertools.pairwise([*earlier, place])):
        raise missing
    # Nothing that could be sampled then may have been released.
    if not eviction.holds(held.segments, place):
        raise missing
    return Held([*earlier, place], table, running, begun, cut=stop.running and not running)


def go_back(held: Held, then: Held, folder: Path) -> None:
    """Deletes from the disk whatever a store holds beyond what it held then. It can be repeated."""
    for old in reversed(held.segments[len(then.segments) :]):
        segment.delete(old)
    segment.sync_folder(folder)
    if not then.segments:
        return
    place = then.segments[-1]
    segment.index_path(place.path).unlink(missing_ok=True)
    if os.stat(place.path).st_size != place.bytes:
        # Not cut short in place: a reader may have it mapped.
        write_atomically(place.path, records.encode_header(place.header) + place.matrix.tobytes())
    segment.sync_folder(folder)
