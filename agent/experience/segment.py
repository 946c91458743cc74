"""One segment of a store: a file of records, and a matrix of its rows."""

import errno
import mmap
import os
import re
import stat
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.errors import ExperienceError
from agent.experience.records import HEADER_BYTES, Header, decode_header

_NAME = re.compile(r"([0-9]{6,18})\.segment")


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
        inode: of the file, by which a reader sees that it was replaced; see `pin`.
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

    def cut_short(self, number: int, header: Header) -> str | None:
        """What to say where decisions are missing at its end, by the header of a segment with a higher number."""
        lost = header.first - self.last if number == self.number + 1 else 0
        return f"{self.path.name} was cut short: {lost:,} of its decisions are missing" if lost > 0 else None

    def pin(self, file: int) -> None:
        """Keeps the inode of an open file from being given to another one, as long as this segment is held."""
        weakref.finalize(self, os.close, os.dup(file))

    def reserve(self, rows: int) -> None:
        """Makes room in memory for some more rows."""
        if self.rows + rows > len(self.matrix):
            larger = np.empty((max(2 * len(self.matrix), self.rows + rows, 256), self.header.words), np.float32)
            larger[: self.rows] = self.matrix[: self.rows]
            self.matrix = larger


def sync_file(file: int, path: Path) -> None:
    """Waits until everything in a file is on the disk."""
    try:
        os.fsync(file)
    except OSError as error:
        error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Waits until the names of new and deleted files are on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        sync_file(file, folder)
    finally:
        os.close(file)


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"{number:06d}.segment"


def index_path(path: Path) -> Path:
    """Where the index of a segment lies."""
    return path.with_suffix(".json")


def delete(segment: Segment) -> None:
    """Deletes the files of a segment."""
    index_path(segment.path).unlink(missing_ok=True)
    segment.path.unlink(missing_ok=True)


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
