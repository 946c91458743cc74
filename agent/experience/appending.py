"""Appending to the file of the segment being written."""

import errno
import os
from contextlib import suppress
from typing import Any

import numpy as np

from agent.errors import ExperienceError
from agent.experience.segment import Segment, sync_file, sync_folder


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
                self.write(made, 0, sync)
                if sync:
                    sync_folder(self._path.parent)
            except BaseException:
                self.close()
                with suppress(OSError):
                    self._path.unlink()
                raise
        segment.inode = os.fstat(self._file).st_ino

    def write(self, data: Any, at: int, sync: bool = False) -> None:
        """Appends whole records, or nothing.

        Args:
            data: bytes, or an array.
            at: size that the file should have; what an interruption kept us from taking note of is cut off.
            sync: returns only when they are on the disk.

        Raises:
            OSError: when the disk is full or fails; the file is as it was before.
        """
        if self._torn or at != self._size:
            os.ftruncate(self._file, at)
            self._size, self._torn = at, False
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
        sync_file(self._file, self._path)

    def close(self) -> None:
        """Gives the file back."""
        if self._file >= 0:
            if self._torn:
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
            os.close(self._file)
            self._file = -1
