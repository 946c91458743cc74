"""Looking for damage in every byte of a store."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.errors import ExperienceError
from agent.experience import records, segment
from agent.experience.index import read_index, to_index
from agent.experience.loading import absorb
from agent.experience.records import FRAME_WORDS, HEADER_BYTES, RESET, STEP
from agent.experience.segment import Segment
from agent.experience.table import Table


def verify(folder: Path, newest: Segment | None, on_progress: Callable[[int, int], None] | None = None) -> list[str]:
    """See `Experience.verify`.

    Args:
        folder: of the store.
        newest: the segment being written, which has no index yet; None when there is none.
        on_progress: called with the bytes that were checked and those that there are.
    """
    damage: list[str] = []
    numbers = segment.numbers(folder)
    sizes = {n: os.stat(segment.segment_path(folder, n), follow_symlinks=False).st_size for n in numbers}
    done = 0
    before: Segment | None = None
    for number in numbers:
        path = segment.segment_path(folder, number)
        try:
            place, found = _verify(path, number, newest is not None and newest.number == number)
            if before and (sentence := before.cut_short(number, place.header)):
                damage.append(sentence)
            damage += found
            before = None if found else place
        except ExperienceError as error:
            damage.append(str(error))
        except FileNotFoundError:  # released meanwhile
            pass
        done += sizes[number]
        if on_progress is not None:
            on_progress(done, sum(sizes.values()))
    return damage


def _verify(path: Path, number: int, newest: bool) -> tuple[Segment, list[str]]:
    """A segment as it was read, as far as it is whole, and what is wrong with it."""
    file = segment.open_file(path)
    try:
        header = segment.read_header(file, path)
        size = os.fstat(file).st_size
        matrix = segment.map_rows(file, header)
        index = read_index(path, header, size)
        crc = zlib.crc32(matrix.data, zlib.crc32(os.pread(file, HEADER_BYTES, 0)))
    finally:
        os.close(file)
    damage = _records(path, header, matrix)
    rest = size - HEADER_BYTES - len(matrix) * header.stride
    if rest:
        damage.append(f"{path.name} ends with {rest:,} bytes (from byte {size - rest:,}) that are no whole record")
    place, table = Segment(path, number, header, matrix, len(matrix), True), Table()
    if not damage:
        stop = absorb(place, table)
        if stop.problem:
            at = HEADER_BYTES + stop.row * header.stride
            damage.append(f"record {stop.records + 1:,} of {path.name} (byte {at:,}) is damaged: {stop.problem}")
    if newest:
        return place, damage
    name = segment.index_path(path).name
    if index is None:
        damage.append(f"{name} is missing, damaged or not the index of {path.name} as it is")
    elif index.get("crc") != crc:
        damage.append(f"the checksum in {name} is not that of {path.name}")
    elif not damage and (
        index.get("episodes") != to_index(place, table)
        or index.get("actors") != place.actors
        or index.get("gaps") != place.gaps
    ):
        damage.append(f"{name} does not describe the episodes that {path.name} holds")
    return place, damage


def _records(path: Path, header: records.Header, matrix: np.ndarray) -> list[str]:
    """What is wrong with single records; rows in a row that no right record begins at are one piece of damage."""
    damage: list[str] = []
    broken = False
    finite = np.isfinite(matrix[:, FRAME_WORDS:]).all(axis=1)
    for count, record in enumerate(records.scan(matrix, header), 1):
        problem = record.problem
        if record.kind in (STEP, RESET) and not finite[record.row]:
            problem = "it has NaN or infinite values"
        if problem and not broken:
            at = HEADER_BYTES + record.row * header.stride
            damage.append(f"record {count:,} of {path.name} (byte {at:,}) is damaged: {problem}")
        broken = bool(record.problem)
    return damage
