"""One segment of a store: a file of records, a matrix of its rows, and the index that is written when it is sealed."""

import errno
import json
import mmap
import os
import re
import stat
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import CheckpointError, ExperienceError
from agent.experience.records import HEADER_BYTES, Header, decode_header, encode_header
from agent.files import parse_json, read_safely, write_atomically

_NAME = re.compile(r"([0-9]{6,18})\.segment")
_LARGEST_INDEX = 2**28


@dataclass
class Segment:
    """A segment that is open: sealed ones as a memory map, the one being written as a matrix in memory.

    Attributes:
        path: of its file.
        number: of the segment, from 1 on.
        header: what it says of itself.
        matrix: (at least `rows`, words) float32.
        rows: that are filled.
        sealed: nothing is added to it any more.
        decisions: that it holds.
        actors: names by number; the first is that of nobody in particular.
        gaps: rows between two decisions of one episode, in order, that hold the name of a new actor.
        inode: of the file, by which a reader sees that it was replaced.
        index_bytes: size of its index.
    """

    path: Path
    number: int
    header: Header
    matrix: np.ndarray
    rows: int
    sealed: bool
    decisions: int = 0
    actors: list[str] = field(default_factory=lambda: [""])
    gaps: list[int] = field(default_factory=list)
    inode: int = 0
    index_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Size of the whole records in its file."""
        return HEADER_BYTES + self.rows * self.header.stride

    @property
    def last(self) -> int:
        """Absolute number of the decision after its last one."""
        return self.header.first + self.decisions

    def reserve(self, rows: int) -> None:
        """Makes room in memory for some more rows."""
        if self.rows + rows > len(self.matrix):
            larger = np.empty((max(2 * len(self.matrix), self.rows + rows, 256), self.header.words), np.float32)
            larger[: self.rows] = self.matrix[: self.rows]
            self.matrix = larger


class Appender:
    """The file of the segment being written. What a write could not finish is cut off again.

    Args:
        segment: what is written to.
        made: the file's content, when it is a new one.
        sync: waits until a new one is on the disk.
    """

    def __init__(self, segment: Segment, made: bytes | None = None, sync: bool = False) -> None:
        self._path = segment.path
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        if made is not None:
            flags |= os.O_CREAT | os.O_EXCL
        try:
            self._file = os.open(self._path, flags, 0o666)
        except FileExistsError:
            raise ExperienceError(f"{self._path} is in the way; move it out of the folder") from None
        self._size = segment.bytes if made is None else 0
        self._torn = False
        if made is not None:
            try:
                self.write(made, sync)
                if sync:
                    sync_folder(self._path.parent)
            except BaseException:
                self.close()
                with suppress(OSError):
                    self._path.unlink()
                raise
        segment.inode = os.fstat(self._file).st_ino

    def cut(self, size: int) -> None:
        """Cuts off what an interruption kept us from taking note of: everything after so many bytes."""
        if size != self._size:
            os.ftruncate(self._file, size)
            self._size = size

    def write(self, data: Any, sync: bool = False) -> None:
        """Appends whole records, or nothing.

        Args:
            data: bytes, or an array.
            sync: returns only when they are on the disk.

        Raises:
            OSError: when the disk is full or fails; the file is as it was before.
        """
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False
        size = data.nbytes if isinstance(data, np.ndarray) else len(data)
        try:
            written = os.write(self._file, data)
            if written != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(self._file)
        except BaseException as error:
            self._torn = True
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
                self._torn = False
            if isinstance(error, OSError):
                error.filename = str(self._path)
            raise
        self._size += size

    def sync(self) -> None:
        """Waits until everything is on the disk."""
        _sync(self._file, self._path)

    def close(self) -> None:
        """Gives the file back."""
        if self._file >= 0:
            if self._torn:
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
            os.close(self._file)
            self._file = -1


def sync_folder(folder: Path) -> None:
    """Waits until the names of new and deleted files are on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        _sync(file, folder)
    finally:
        os.close(file)


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"{number:06d}.segment"


def index_path(path: Path) -> Path:
    """Where the index of a segment lies."""
    return path.with_suffix(".json")


def numbers(folder: Path) -> list[int]:
    """The numbers of the segments in a folder, in order."""
    found = {}
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        if match and segment_path(folder, int(match[1])).name == name and int(match[1]):
            found[int(match[1])] = name
    return sorted(found)


def open_file(path: Path) -> int:
    """A descriptor to read a segment by.

    Raises:
        ExperienceError: when it is a symbolic link or anything else than a file.
        FileNotFoundError: when it isn't there.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ExperienceError(f"{path} is a symbolic link; expected the file itself: copy it there") from None
        if error.errno == errno.ENOENT:
            raise
        raise ExperienceError(f"{path} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ExperienceError(f"{path} is no regular file; expected a segment of experience")
    return file


def read_header(file: int, path: Path) -> Header:
    """The header of an open segment; see `decode_header`."""
    return decode_header(os.pread(file, HEADER_BYTES, 0), path)


def map_rows(file: int, header: Header) -> np.ndarray:
    """(rows, words) whole rows of an open segment, as a plain array on its memory map."""
    rows = (os.fstat(file).st_size - HEADER_BYTES) // header.stride
    if rows < 1:
        return np.empty((0, header.words), np.float32)
    mapped = mmap.mmap(file, HEADER_BYTES + rows * header.stride, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, np.float32, rows * header.words, HEADER_BYTES).reshape(rows, header.words)


def read_rows(file: int, header: Header, start: int = 0) -> np.ndarray:
    """(rows, words) whole rows from `start` on, in memory of their own."""
    begin = HEADER_BYTES + start * header.stride
    rows = max((os.fstat(file).st_size - begin) // header.stride, 0)
    matrix = np.empty((rows, header.words), np.float32)
    view, done = matrix.reshape(-1).view(np.uint8).data, 0
    while done < len(view):
        count = os.preadv(file, [view[done:]], begin + done)
        if not count:  # it became shorter meanwhile
            break
        done += count
    return matrix[: done // header.stride]


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


def _sync(file: int, path: Path) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        error.filename = str(path)
        raise


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
