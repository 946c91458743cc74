"""Opening a store: all its segments, and what a crash left of the newest."""

import os
from pathlib import Path

import numpy as np

from agent.errors import ExperienceError
from agent.experience import records, segment
from agent.experience.held import Held
from agent.experience.index import from_index, read_index, to_index, write_index
from agent.experience.loading import Stop, absorb
from agent.experience.records import HEADER_BYTES
from agent.experience.segment import Segment
from agent.files import write_atomically


def load(folder: Path, before: Held | None) -> Held:
    """Opens all segments of a folder.

    Args:
        folder: of the store.
        before: for those that only read: what they have open; what is still the same of it is kept, and nothing is
            changed on disk. None for the writer, who cuts off what a crash left, and writes indices that are missing.

    Raises:
        ExperienceError: when something isn't a segment, or the segments don't belong together.
    """
    opened = Held()
    numbers = segment.numbers(folder)
    for number in numbers:
        path = segment.segment_path(folder, number)
        try:
            file = segment.open_file(path)
        except FileNotFoundError:  # released meanwhile
            continue
        try:
            _load(opened, before, file, path, number, number == numbers[-1])
        finally:
            os.close(file)
    return opened


def _load(opened: Held, before: Held | None, file: int, path: Path, number: int, newest: bool) -> None:
    if newest and _unfinished(file):
        if before is None:
            path.unlink()
            opened.dropped.append(f"removed {path.name}: it was never finished, and holds nothing")
        return
    header = segment.read_header(file, path)
    status = os.fstat(file)
    if opened.segments:
        last, size = opened.segments[-1], opened.table.size
        episode = int(opened.table.number[size - 1]) + 1 if size else 0
        if header.store != last.header.store or header.first < last.last or header.episode < episode:
            raise ExperienceError(f"{path} does not belong to the same experience as {last.path.name} beside it")
        if sentence := last.cut_short(number, header):
            opened.dropped.append(sentence)
    index = read_index(path, header, status.st_size)
    held = next((s for s in before.segments if s.number == number), None) if before else None
    if held and (held.inode != status.st_ino or held.header != header or held.bytes > status.st_size):
        held = None  # it was wound back meanwhile
    opened.running = False
    if before and held and held.sealed and held.bytes == status.st_size and (index or not newest):
        opened.segments.append(held)
        opened.table.copy(before.table, number)
        return
    if index is not None:
        place = Segment(path, number, header, segment.map_rows(file, header), 0, True, inode=status.st_ino)
        place.rows = len(place.matrix)
        place.index_bytes = os.stat(segment.index_path(path)).st_size
        if place.bytes == status.st_size and from_index(place, opened.table, index):
            opened.segments.append(place)
            return
    if before and held and not held.sealed:
        _go_on(opened, before, held, file)
        return
    matrix = segment.read_rows(file, header) if newest else segment.map_rows(file, header)
    place = Segment(path, number, header, matrix, len(matrix), not newest, inode=status.st_ino)
    stop = absorb(place, opened.table)
    place.rows = stop.row
    opened.running = stop.running
    opened.segments.append(place)
    if newest and before is None:
        _recover(opened, place, stop, file, matrix)
    elif newest:
        place.pin(file)  # the memory map of a sealed one does the same
        if stop.row < len(matrix) and _more(matrix, place, stop.row):  # no torn tail, nor what is being written
            opened.dropped.append(_left_out(place, stop, status.st_size))
    elif place.bytes != status.st_size:
        opened.dropped.append(_left_out(place, stop, status.st_size))
    elif before is None:
        place.index_bytes = write_index(place, to_index(place, opened.table))


def _left_out(place: Segment, stop: Stop, size: int) -> str:
    return (
        f"left out {size - place.bytes:,} bytes after record {stop.records:,} of {place.path.name}: "
        f"{stop.problem or 'a record that was never finished'}"
    )


def _go_on(opened: Held, before: Held, place: Segment, file: int) -> None:
    """Reads what was appended to a segment since it was read last."""
    start = place.rows
    fresh = segment.read_rows(file, place.header, start)
    place.reserve(len(fresh))
    place.matrix[start : start + len(fresh)] = fresh
    place.rows += len(fresh)
    opened.table.copy(before.table, place.number)
    stop = absorb(place, opened.table, start, before.running)
    place.rows = stop.row
    opened.running = stop.running
    opened.segments.append(place)


def _recover(opened: Held, place: Segment, stop: Stop, file: int, matrix: np.ndarray) -> None:
    """Cuts off what follows the right records of the segment being written."""
    size = os.fstat(file).st_size
    empty = not opened.table.size or opened.table.segment[opened.table.size - 1] != place.number
    if size == place.bytes and not empty:
        return
    name = place.path.name
    kept = ""
    if stop.row < len(matrix) and _more(matrix, place, stop.row):
        # Nobody knows what this is; it isn't ours to destroy.
        begin = 0 if empty else place.bytes
        aside = place.path.with_name(f"dropped-{place.number:06d}-{begin}.bin")
        write_atomically(aside, os.pread(file, size - begin, begin))
        kept = f"; it is kept in {aside.name}"
    if empty:
        opened.segments.remove(place)
        place.path.unlink()
        opened.dropped.append(f"removed {name}: its first episode was never finished{kept}")
        return
    os.truncate(place.path, place.bytes)
    problem = stop.problem if kept else "a record that was never finished"
    opened.dropped.append(
        f"dropped {size - place.bytes:,} bytes after record {stop.records:,} of {name}: {problem}{kept}"
    )


def _more(matrix: np.ndarray, place: Segment, row: int) -> bool:
    """Whether whole records follow where the right ones end; an episode that was only described is none."""
    for record in records.scan(matrix, place.header, row):
        if record.kind and not (record.row == row and record.kind == records.EPISODE):
            return True
    return False


def _unfinished(file: int) -> bool:
    """Whether a file is what a crash leaves of a segment that was being made: part of a header, or nothing."""
    size = os.fstat(file).st_size
    if size < HEADER_BYTES:
        return True
    return all(not any(os.pread(file, 2**20, at)) for at in range(0, size, 2**20))
