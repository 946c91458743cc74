"""Mistakes that a user can mend, as one sentence and exit code 2."""

import contextlib
import errno
import sys
from collections.abc import Iterator

_UNUSABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


class UsageError(ValueError):
    """Something on the command line that doesn't fit together."""


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns the errors that users can mend into a line on standard error and exit code 2.

    Anything else is a defect of ours and keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        fail(sentence)


def sentence_of(error: Exception) -> str | None:
    """What to say of an error; None where it is no user's mistake."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, OSError):
        if disk_is_full(error):
            return f"the disk is full; make room and start again (while writing {error.filename or 'the run folder'})"
        if error.errno in _UNUSABLE:
            reason = (error.strerror or "no permission").lower()
            return f"can't use {error.filename!r}: {reason}; choose another place"
    try:
        # Not at the top: where a package is broken, the doctor must still be able to say so.
        from agent import CheckpointError, ConfigError, DivergedError, ExperienceError, ObservationError, ProcessError
        from envs import RenderError, TaskError
        from planners import PlannerError
    except Exception:
        return None
    ours = CheckpointError, ConfigError, DivergedError, ExperienceError, ObservationError, ProcessError
    mendable = (*ours, RenderError, TaskError, PlannerError)
    return str(error) if isinstance(error, mendable) else None


def disk_is_full(error: BaseException) -> bool:
    """Whether there was no room to write to, be it the disk's or the user's own share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def fail(sentence: str) -> None:
    """Says what was wrong, and ends with exit code 2."""
    print(f"preplay: {sentence}", file=sys.stderr)
    raise SystemExit(2)
