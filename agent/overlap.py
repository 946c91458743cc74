"""A second thread, which learns while the first one acts."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

GoesOn = Callable[[], bool]
"""Whether what is done on the second thread is still wanted; asked between two updates."""


class Overlap:
    """Does two things at once, and knows nothing of what they are.

    torch lets go of the interpreter in each operation, so on two cores two threads take little more time than one.
    What the two do must not depend on each other; then what comes out doesn't depend on which is quicker either.

    Args:
        threads: torch threads, as for the first thread.
    """

    def __init__(self, threads: int) -> None:
        # Some libraries count the threads they may use for each thread that calls them.
        self._second = ThreadPoolExecutor(1, "learner", initializer=torch.set_num_threads, initargs=(threads,))

    def run(self, learn: Callable[[GoesOn], object], act: Callable[[], object]) -> None:
        """Runs `learn` on the second thread and `act` on this one; returns when both are done.

        Raises:
            Whatever either raises. Of two errors, that of `act`; `learn` is then asked not to go on, and waited for.
        """
        unwanted = threading.Event()
        learned = self._second.submit(learn, lambda: not unwanted.is_set())
        try:
            act()
            learned.result()
        finally:
            # A signal may have raised in either line; what `learn` uses must not be closed under it.
            unwanted.set()
            wait([learned])
