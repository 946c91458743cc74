"""Where threads meet."""

import threading
import time
from dataclasses import dataclass

import pytest

from agent.many.meeting import Meeting


@dataclass(frozen=True)
class Ask:
    order: int
    what: str


def meet(scripts, answer):
    """Threads that ask one thing after another, each after so many seconds; what each got."""
    meeting, got = Meeting(len(scripts), answer), [[] for _ in scripts]

    def live(seat):
        try:
            for seconds, request in scripts[seat]:
                time.sleep(seconds)
                got[seat].append(meeting.ask(seat, request))
        except Exception as error:
            got[seat].append(error)
        finally:
            meeting.leave(seat)

    threads = [threading.Thread(target=live, args=(seat,), daemon=True) for seat in range(len(scripts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return got


@pytest.mark.parametrize("slow", range(3))
def test_requests_are_answered_in_the_same_groups_whichever_thread_is_slow(slow):
    calls = []

    def answer(requests):
        calls.append([request.what for request in requests])
        return [request.what.upper() for request in requests]

    scripts = [
        [Ask(0, "a0"), Ask(1, "a1"), Ask(2, "a2")],
        [Ask(1, "b1"), Ask(2, "b2")],
        [Ask(2, "c2"), Ask(0, "c0"), Ask(2, "c3")],
    ]
    got = meet([[(0.02 * (i == slow), each) for each in script] for i, script in enumerate(scripts)], answer)
    assert got == [[each.what.upper() for each in script] for script in scripts]
    assert calls == [["a0"], ["a1", "b1"], ["a2", "b2", "c2"], ["c0"], ["c3"]]


def test_an_error_in_a_call_is_raised_in_all_that_asked_and_in_no_other():
    def answer(requests):
        if requests[0].order == 1:
            raise KeyError("no")
        return [ValueError("only you") if request.what == "bad" else request.what for request in requests]

    scripts = [[Ask(1, "a"), Ask(0, "x")], [Ask(1, "b")], [Ask(0, "bad")], [Ask(0, "c"), Ask(2, "d")]]
    got = meet([[(0, each) for each in script] for script in scripts], answer)
    assert [[type(x) for x in each] for each in got] == [[KeyError], [KeyError], [ValueError], [str, str]]


def test_a_seat_is_for_one_thread():
    meeting = Meeting(2, lambda requests: list(requests))
    meeting.leave(1)
    with pytest.raises(RuntimeError, match="seat 1"):
        meeting.ask(1, Ask(0, "x"))
    assert meeting.ask(0, Ask(0, "y")) == Ask(0, "y")
