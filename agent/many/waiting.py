"""Waiting for another process."""

import time
from dataclasses import dataclass
from multiprocessing.synchronize import Semaphore


@dataclass(frozen=True)
class Bells:
    """How processes call each other. They can only be given to a process when it is started.

    Attributes:
        asked: released whenever somebody has asked.
        answered: of each who asks, released with its answer.
    """

    asked: Semaphore
    answered: list[Semaphore]


def wait_for(semaphore: Semaphore, spin: float = 0.0, timeout: float | None = None) -> bool:
    """Waits until it is released.

    Args:
        semaphore: to acquire.
        spin: seconds during which to ask again and again; to be woken from sleep takes longer than most answers.
        timeout: seconds to sleep after that at most.

    Returns:
        Whether it was.
    """
    if spin:
        end = time.perf_counter() + spin
        while time.perf_counter() < end:
            if semaphore.acquire(block=False):
                return True
    return semaphore.acquire(timeout=timeout)
