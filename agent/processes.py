"""What worker processes have in common."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

_ENDING = signal.SIGINT, signal.SIGTERM


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Lets what would end a worker that begins meanwhile wait, until it has come to `depend_on_parent`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def depend_on_parent() -> None:
    """In a worker: Ctrl-C is the parent's business, and where the parent is killed the worker ends too.

    Standard output is the parent's alone; what is printed in the worker, by a user's environment for one, goes to
    standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    sys.stdout = sys.stderr
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
