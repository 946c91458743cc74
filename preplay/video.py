"""Episodes as mp4 files."""

import contextlib
import errno
import glob
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio.v2 as imageio
import imageio_ffmpeg
from imageio.v3 import immeta

from preplay.errors import UsageError

# Of a frame. H.264 wants even numbers of pixels, and most players blocks of eight.
WIDTH, HEIGHT = 480, 360
# A video of this size takes far less; with less than this free, writing isn't begun.
_ROOM = 16 * 2**20


class Video:
    """An H.264 video that is either whole or not there: written aside, and renamed when it is closed.

    Args:
        path: ends in .mp4.
        frames_per_second: of what is shown, and of the file.

    Raises:
        UsageError: when nothing can be written there.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        check_video_path(path)
        self._path, self._aside = path, path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
        self._writer = imageio.get_writer(
            self._aside, fps=frames_per_second, codec="libx264", quality=5, macro_block_size=8, ffmpeg_log_level="error"
        )

    def add(self, frame: Any) -> None:
        """Appends a frame (height, width, 3) uint8."""
        self._writer.append_data(frame)

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._check()
                os.replace(self._aside, self._path)
        finally:
            self._aside.unlink(missing_ok=True)
            if isinstance(error, OSError) and shutil.disk_usage(self._path.parent).free < 2**20:
                # ffmpeg dies of a full disk, and all that is seen of it from here is a broken pipe.
                raise OSError(errno.ENOSPC, "no space left on the device", str(self._path)) from error

    def _check(self) -> None:
        """Makes sure that the file is whole: ffmpeg ends in silence when there is no room for its last bytes."""
        try:
            immeta(self._aside, plugin="FFMPEG")
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(errno.ENOSPC, "no space left on the device", str(self._path)) from error


def remove_unfinished(path: Path) -> None:
    """Removes what a process that was killed left of a video written to `path`."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp.mp4"):
        left.unlink(missing_ok=True)


def check_encoder() -> None:
    """Makes sure that there is a program that encodes videos.

    Raises:
        UsageError: when there is none.
    """
    found = None
    with contextlib.suppress(RuntimeError):  # neither imageio's own nor the system's
        found = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    if found is None:
        raise UsageError("there is no ffmpeg to encode videos with; install one, or let IMAGEIO_FFMPEG_EXE name it")


def check_video_path(path: Path) -> None:
    """Makes sure, before hours of playing, that a video can be written.

    Raises:
        UsageError: for another ending than .mp4, a folder that isn't there, can't be written, or has no room, or where
            there is no ffmpeg.
    """
    if path.suffix.lower() != ".mp4":
        raise UsageError(f"the video {str(path)!r} must end in .mp4")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {str(path.parent)!r} for the video")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"the video {str(path)!r} can't be written there; choose another place")
    check_encoder()
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.parent).free < _ROOM:
            raise UsageError(f"less than {_ROOM >> 20} MB are free for the video {str(path)!r}; make room first")
