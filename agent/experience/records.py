"""Records, the bytes that a segment consists of.

A segment is a header of `HEADER_BYTES`, then rows of the same number of 4-byte words. A record takes one row, or as
many whole rows as its JSON needs, and begins with a frame of three words:

    0   length of the payload in bytes
    1   CRC-32 of the rest of the record, padding included
    2   kind (8 bits), flags (8 bits: terminated, truncated), actor (16 bits: an index into the segment's names)

The payload of a RESET or a STEP is the observation, the action and the reward as float32: those of a STEP are the
action that was taken, the reward it earned and the observation that followed. Everything is little-endian.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from agent.errors import CheckpointError, ExperienceError
from agent.files import parse_json

FORMAT = 1
HEADER_BYTES = 4096
FRAME_WORDS = 3
FRAME_BYTES = 4 * FRAME_WORDS
HEADER, EPISODE, ACTOR, RESET, STEP, END = range(1, 7)
TERMINATED, TRUNCATED = 1, 2
LARGEST_DIM = 1_000_000
MOST_ACTORS = 2**16
# An episode's description and an actor's name have to stay below this.
LONGEST_JSON = 2**20
_FRAME = struct.Struct("<III")
_LARGEST_NUMBER = 2**62


@dataclass(frozen=True)
class Header:
    """What a segment says of itself.

    Attributes:
        uuid: 32 hexadecimal digits, its own.
        store: 32 hexadecimal digits that all segments of a store share.
        observation_dim: elements of an observation.
        action_dim: elements of an action.
        first: absolute number of the first decision that it holds.
        episode: number of its first episode.
        seed: of the whole store, for what is drawn when segments are evicted.
        store_words: words a row of the store's first segment.
    """

    uuid: str
    store: str
    observation_dim: int
    action_dim: int
    first: int
    episode: int
    seed: int
    store_words: int

    @cached_property
    def words(self) -> int:
        """Words a row."""
        return row_words(self.observation_dim, self.action_dim)

    @cached_property
    def stride(self) -> int:
        """Bytes a row."""
        return 4 * self.words


class Record(NamedTuple):
    """A record that a scan came to; a plain tuple, since there may be millions.

    Attributes:
        row: where it begins.
        rows: how many it takes.
        kind: one of the kinds above; 0 for a row that no right record begins at.
        flags: `TERMINATED` and `TRUNCATED`.
        actor: index of its actor's name.
        problem: what is wrong with it, if something is.
    """

    row: int
    rows: int
    kind: int
    flags: int = 0
    actor: int = 0
    problem: str = ""


def row_words(observation_dim: int, action_dim: int) -> int:
    """Words a row: the frame, the observation, the action and the reward."""
    return FRAME_WORDS + observation_dim + action_dim + 1


def encode_header(header: Header) -> bytes:
    """The first `HEADER_BYTES` of a segment."""
    values = {"format": FORMAT, "words": header.words} | asdict(header)
    return _framed(HEADER, 0, json.dumps(values).encode(), HEADER_BYTES)


def decode_header(data: bytes, name: object) -> Header:
    """The reverse of `encode_header`.

    Raises:
        ExperienceError: when the bytes are no header, or claim impossible sizes.
    """
    wrong = ExperienceError(f"{name} is not a segment of experience, or its header is damaged")
    if len(data) != HEADER_BYTES:
        raise wrong
    length, crc, word = _FRAME.unpack_from(data)
    if word != HEADER or length > HEADER_BYTES - FRAME_BYTES or zlib.crc32(data[8:]) != crc:
        raise wrong
    try:
        values = parse_json(data[FRAME_BYTES : FRAME_BYTES + length], f"the header of {name}")
    except CheckpointError as error:
        raise ExperienceError(str(error)) from None
    if not isinstance(values, dict):
        raise wrong
    if values.get("format") != FORMAT:
        raise ExperienceError(
            f"{name} has format {values.get('format')!r}; this version of preplay reads format {FORMAT}"
        )
    numbers = {
        "observation_dim": (1, LARGEST_DIM),
        "action_dim": (1, LARGEST_DIM),
        "first": (0, _LARGEST_NUMBER),
        "episode": (0, _LARGEST_NUMBER),
        "seed": (0, _LARGEST_NUMBER),
        "store_words": (row_words(1, 1), row_words(LARGEST_DIM, LARGEST_DIM)),
    }
    for key, (lowest, largest) in numbers.items():
        if type(values.get(key)) is not int or not lowest <= values[key] <= largest:
            raise ExperienceError(f"the header of {name} says {key} is {str(values.get(key))[:50]}, which can't be")
    uuid, store = values.get("uuid"), values.get("store")
    if not isinstance(uuid, str) or not isinstance(store, str) or len(uuid) != 32 or len(store) != 32:
        raise wrong
    header = Header(uuid, store, **{key: values[key] for key in numbers})
    if values.get("words") != header.words:
        raise wrong
    return header


def encode_json(kind: int, actor: int, values: Any, stride: int) -> bytes:
    """An EPISODE or ACTOR record, padded to whole rows.

    Raises:
        ValueError: when the values can't be written as JSON that can be read again, or take too much room.
    """
    payload = plain_json(values)
    size = FRAME_BYTES + len(payload)
    return _framed(kind, actor, payload, -(-size // stride) * stride)


def plain_json(values: Any) -> bytes:
    """Values as JSON that can be read again.

    Raises:
        ValueError: when they can't be written like that, or take too much room.
    """
    try:
        data = json.dumps(values, allow_nan=False).encode()
        if len(data) > LONGEST_JSON:
            raise ValueError(f"it takes {len(data):,} bytes; at most {LONGEST_JSON:,} can be stored")
        parse_json(data, "it")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"what is said about an episode or an actor can't be stored: {error}") from None
    return data


def decode_json(data: bytes) -> Any:
    """The payload of an EPISODE or ACTOR record.

    Raises:
        ValueError: when it is no JSON.
    """
    return parse_json(data, "a record")


def encode_end(stride: int) -> bytes:
    """An END record."""
    return _framed(END, 0, b"", stride)


def seal_row(row: np.ndarray, words: np.ndarray, word: int) -> None:
    """Completes the frame of a RESET or STEP whose payload is in place.

    Args:
        row: (words,) float32.
        words: the same memory as uint32.
        word: kind, flags and actor.
    """
    words[0] = 4 * (len(row) - FRAME_WORDS)
    words[2] = word
    words[1] = zlib.crc32(row[2:].data)


def scan(matrix: np.ndarray, header: Header, start: int = 0) -> Iterator[Record]:
    """The records of a segment, in order; a row that no right record begins at comes with a problem, row by row.

    Args:
        matrix: (rows, words) float32, whole rows.
        header: the segment's.
        start: row to begin at.
    """
    rows = len(matrix)
    if start >= rows:
        return
    stride = header.stride
    raw = matrix.data.cast("B")
    frames = matrix[start:, :FRAME_WORDS].view(np.uint32)
    lengths, sums, words = frames[:, 0].tolist(), frames[:, 1].tolist(), frames[:, 2].tolist()
    full = stride - FRAME_BYTES
    crc32 = zlib.crc32
    row = start
    while row < rows:
        length, word = lengths[row - start], words[row - start]
        kind, flags, actor = word & 255, word >> 8 & 255, word >> 16
        taken = 1
        problem = ""
        if kind in (STEP, RESET):
            if length != full:
                problem = "its length is wrong"
            elif flags & ~(TERMINATED | TRUNCATED) or (kind == RESET and (flags or actor)):
                problem = "its flags are wrong"
        elif kind in (EPISODE, ACTOR):
            taken = -(-(FRAME_BYTES + length) // stride)
            if length > LONGEST_JSON or row + taken > rows:
                problem = "it was never finished, or its length is wrong"
            elif flags or (kind == EPISODE and actor):
                problem = "its flags are wrong"
        elif kind == END:
            if length or flags or actor:
                problem = "its length or its flags are wrong"
        else:
            problem = "it is of no known kind"
        if not problem and crc32(raw[row * stride + 8 : (row + taken) * stride]) != sums[row - start]:
            problem = "its checksum is wrong"
        if problem:
            yield Record(row, 1, 0, problem=problem)
            row += 1
        else:
            yield Record(row, taken, kind, flags, actor)
            row += taken


def row_kinds(rows: np.ndarray) -> list[int]:
    """The kind of each of some RESET and STEP records; 0 where the checksum is wrong.

    Args:
        rows: (rows, words) float32, in memory of their own.
    """
    raw, stride = rows.data.cast("B"), rows.strides[0]
    frames = rows[:, :FRAME_WORDS].view(np.uint32).tolist()
    return [
        word & 255 if zlib.crc32(raw[i * stride + 8 : (i + 1) * stride]) == crc else 0
        for i, (_, crc, word) in enumerate(frames)
    ]


def payload(matrix: np.ndarray, record: Record) -> bytes:
    """The payload of a record that a scan found right."""
    data = matrix[record.row : record.row + record.rows].tobytes()
    return data[FRAME_BYTES : FRAME_BYTES + _FRAME.unpack_from(data)[0]]


def _framed(kind: int, actor: int, payload: bytes, size: int) -> bytes:
    rest = struct.pack("<I", kind | actor << 16) + payload
    rest += bytes(size - 8 - len(rest))
    return struct.pack("<II", len(payload), zlib.crc32(rest)) + rest
