"""Where threads meet: what all of them ask for is answered in one call."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable  # the tests check types while they run
class Request(Protocol):
    """What a thread asks for."""

    @property
    def order(self) -> int:
        """Of its kind. Requests of the lowest order are answered first, and together."""


Answer = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers requests of one kind, in their order. An answer that is an exception is raised where it was asked for."""


class Meeting:
    """Answers the requests of many threads, those of one kind together.

    Nothing is answered before every thread that takes part waits for an answer. Then the requests of the lowest order
    are answered, in the order of the seats, and those threads go on until all wait again. So which requests are
    answered together is settled by what the threads do, and not by which is quicker; and threads that are out of step,
    since one evaluates while the others learn, fall into step again.

    Each thread has a seat and must leave it in the end, whatever happens: the others wait for it until then.

    Args:
        seats: threads that take part, each known by a number below this.
        answer: is called by whichever thread comes last; one call at a time.
    """

    def __init__(self, seats: int, answer: Answer) -> None:
        self._answer, self._taken = answer, set(range(seats))
        self._lock = threading.Lock()
        self._answered = [threading.Condition(self._lock) for _ in range(seats)]
        self._asked: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}

    def ask(self, seat: int, request: Request) -> Any:
        """The answer to a request, once there is one.

        Raises:
            Whatever was raised while it was answered.
            RuntimeError: when the seat was left, or another thread asks from it.
        """
        with self._lock:
            if seat not in self._taken or seat in self._asked:
                raise RuntimeError(f"seat {seat} isn't free to ask: each thread needs one of its own")
            self._asked[seat] = request
            self._answer_if_all_wait()
            while seat not in self._answers:
                self._answered[seat].wait()
            answer = self._answers.pop(seat)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self, seat: int) -> None:
        """The others no longer wait for this one."""
        with self._lock:
            self._taken.discard(seat)
            self._answer_if_all_wait()

    def _answer_if_all_wait(self) -> None:
        if not self._asked or self._asked.keys() != self._taken:
            return
        first = min(request.order for request in self._asked.values())
        seats = sorted(seat for seat, request in self._asked.items() if request.order == first)
        requests = [self._asked.pop(seat) for seat in seats]
        answers: Iterable[Any]
        try:
            answers = self._answer(requests)
        except BaseException as error:  # of all that asked, each must hear of it
            answers = [error] * len(seats)
        for seat, answer in zip(seats, answers, strict=True):
            self._answers[seat] = answer
            self._answered[seat].notify()
