"""Many runs at once, each on a thread of its own."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from agent.engine import Engine
from agent.many.answers import Answers
from agent.many.meeting import Meeting
from agent.many.seat import Seat

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of a run.

    Attributes:
        result: what it returned; None where it failed.
        error: that ended it; None where it came to its end.
    """

    result: T | None
    error: BaseException | None


class Together:
    """Trains many agents in one process, the heavy computations of all in one call each.

    Every agent is an ordinary run of its own `Trainer`, on a thread of its own, with the engine that it is given here.
    Its planning and its updates come out as they would alone, to rounding. Trainers are made one after another, before
    any of them runs, since initial weights are drawn from torch's own generator.

        together = Together(len(settings))
        trainers = [Trainer(..., engine=together.engine(i)) for i, ... in enumerate(settings)]
        outcomes = together.run([trainer.run for trainer in trainers])

    An agent's worlds are best stepped in other processes, since the threads share one interpreter.

    Args:
        count: of runs.

    Attributes:
        count: of runs.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._meeting = Meeting(count, Answers())

    def engine(self, number: int) -> Engine:
        """What a trainer's `engine` must be, for each number below the count."""
        return Seat(self._meeting, number)

    def run(
        self,
        runs: Sequence[Callable[[], T]],
        threads: int = 1,
        on_end: Callable[[int, Outcome[T]], None] | None = None,
    ) -> list[Outcome[T]]:
        """Lets all runs come to their end. One that fails does not end the others.

        Args:
            runs: as many as there are engines, such as `trainer.run`, each called on a thread of its own.
            threads: torch threads of each.
            on_end: called with a run's number and outcome as soon as it ends, on its thread.
        """
        if len(runs) != self.count:
            raise ValueError(f"there are {len(runs)} runs; expected {self.count}")
        outcomes: list[Outcome[T]] = [Outcome(None, RuntimeError("it never began")) for _ in runs]

        def live(number: int) -> None:
            # Some libraries count the threads they may use for each thread that calls them.
            torch.set_num_threads(threads)
            try:
                outcomes[number] = Outcome(runs[number](), None)
            except BaseException as error:
                outcomes[number] = Outcome(None, error)
            finally:
                self._meeting.leave(number)
            if on_end is not None:
                on_end(number, outcomes[number])

        # Daemons, so that a program which must end at once can, by os._exit.
        living = [threading.Thread(target=live, args=(i,), name=f"run-{i}", daemon=True) for i in range(len(runs))]
        for thread in living:
            thread.start()
        for thread in living:
            thread.join()
        return outcomes
