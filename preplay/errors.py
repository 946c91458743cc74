"""Mistakes that a user can mend, as one sentence and exit code 2."""

import contextlib
import errno
import sys
from collections.abc import Iterator


class UsageError(ValueError):
    """Something on the command line that doesn't fit together."""


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns the errors that users can mend into a line on standard error and exit code 2.

    Anything else is a defect of ours and keeps its traceback.
    """
    # Imported here so that a mistake on the command line is answered before torch is loaded.
    from agent import CheckpointError, ConfigError, DivergedError, ObservationError
    from envs import RenderError, TaskError
    from planners import PlannerError

    mendable = (
        UsageError,
        CheckpointError,
        ConfigError,
        DivergedError,
        ObservationError,
        RenderError,
        TaskError,
        PlannerError,
    )
    try:
        yield
    except mendable as error:
        fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            fail(f"the disk is full; make room and start again (while writing {error.filename or 'the run folder'})")
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EDQUOT):
            fail(f"can't write {error.filename!r}: {(error.strerror or 'no permission').lower()}; choose another --out")
        raise


def fail(sentence: str) -> None:
    """Says what was wrong, and ends with exit code 2."""
    print(f"preplay: {sentence}", file=sys.stderr)
    raise SystemExit(2)
