"""How long a training run takes, and how fast it is."""

import time


class Pace:
    """A run's clock, and its speed since the last lap.

    Args:
        step: environment steps taken so far.
        seconds: spent on them before, in other sittings.
    """

    def __init__(self, step: int = 0, seconds: float = 0.0) -> None:
        now = time.perf_counter()
        self._began, self._lap_began, self._lap_step = now - seconds, now, step

    @property
    def seconds(self) -> float:
        """That the run took so far."""
        return time.perf_counter() - self._began

    def speed(self, step: int) -> float:
        """Environment steps a second since the last lap; 0 where no time has passed."""
        seconds = time.perf_counter() - self._lap_began
        return (step - self._lap_step) / seconds if seconds > 0 else 0.0

    def leave_out(self, seconds: float) -> None:
        """Speed is as if these had not been spent: an evaluation's."""
        self._lap_began += seconds

    def begin_lap(self, step: int) -> None:
        """Speed is that from here on."""
        self._lap_began, self._lap_step = time.perf_counter(), step
