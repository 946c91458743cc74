"""One writer at a time."""

import fcntl
import os
import stat
from pathlib import Path

from agent.errors import ExperienceError

NAME = "lock"


class Lock:
    """Takes a folder for this opener alone; a kill gives it back.

    Raises:
        ExperienceError: when another one has it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ExperienceError(f"{path} can't be opened: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise ExperienceError(f"{path} is no regular file")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ExperienceError(
                    f"another process is writing to the experience in {str(folder)!r}; "
                    "wait for it, or use another folder"
                ) from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Gives the folder back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
