"""The process that computes for all: it waits until everybody has asked, and answers together what can be."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import torch

from agent.config import TrainConfig
from agent.many.desk import Ask, Desk, Said, Sizes
from agent.many.networks import Shape
from agent.many.stack import Stack
from agent.many.waiting import Bells, wait_for

_LOOK = 1.0  # seconds after which to look again, whatever was heard


class Host:
    """Answers what agents ask for at their desks.

    Nothing is answered before every agent waits for an answer. Then, at each desk, the requests of the lowest kind are
    answered, and those agents go on until all wait again. So which requests are answered together is settled by what
    the agents do, and not by which is quicker; and agents that are out of step, since one evaluates while the others
    learn, fall into step again.

    Args:
        config: of all agents.
        device: to compute on.
        bells: of as many agents as there are.
        spin: seconds to wait for the next request without going to sleep.

    Attributes:
        error: what went wrong here, and so for those who asked; None as long as nothing has.
    """

    def __init__(self, config: TrainConfig, device: torch.device, bells: Bells, spin: float = 0.0) -> None:
        self._config, self._device, self._bells, self._spin = config, device, bells, spin
        count = len(bells.answered)
        self._changed = threading.Condition()
        self._shapes: list[Shape | None] = [None] * count
        self._left = [False] * count
        self._places: list[tuple[Desk, int] | None] = [None] * count
        self._desks: list[tuple[Desk, Stack, list[int]]] = []
        self._pinned: list[Desk] = []
        self.error: Exception | None = None

    def introduce(self, number: int, shape: Shape) -> None:
        """An agent asks for a place; from any thread."""
        with self._changed:
            self._shapes[number] = shape
            self._changed.notify_all()

    def leave(self, number: int) -> None:
        """An agent asks for nothing any more; from any thread."""
        with self._changed:
            self._left[number] = True
            self._changed.notify_all()
        self._bells.asked.release()

    def place(self, number: int) -> tuple[Desk, int]:
        """Where an agent sits that has introduced itself. There are desks as soon as everybody has."""
        with self._changed:
            self._changed.wait_for(lambda: self._places[number] is not None)
        found = self._places[number]
        assert found is not None
        return found

    def serve(self) -> None:
        """Answers until everybody has left."""
        with self._changed:
            while not all(shape or left for shape, left in zip(self._shapes, self._left, strict=True)):
                self._changed.wait()
        try:
            self._set_up()
            while self._wait():
                for desk, stack, members in self._desks:
                    self._answer(desk, stack, members)
        finally:
            for desk in self._pinned:
                torch.cuda.cudart().cudaHostUnregister(desk.memory.data_ptr())

    def _set_up(self) -> None:
        """Seats those together whose agents can be stacked."""
        groups: dict[Shape, dict[int, Shape]] = {}
        for number, shape in enumerate(self._shapes):
            if shape is not None:
                groups.setdefault(replace(shape, inputs=0, action_dim=0), {})[number] = shape
        for shapes in groups.values():
            members = list(shapes)
            desk = Desk(Sizes(len(members), shapes[members[0]].padded(list(shapes.values())), self._config))
            if self._device.type == "cuda" and _pin(desk):
                self._pinned.append(desk)
            stack = Stack(desk, self._device)
            with self._changed:
                self._desks.append((desk, stack, members))
                for row, number in enumerate(members):
                    self._places[number] = desk, row
                self._changed.notify_all()

    def _wait(self) -> bool:
        """Until everybody who is left has asked; False where nobody is left."""
        for desk, _, members in self._desks:
            while len(self._asking(desk, members)) < sum(not self._left[number] for number in members):
                wait_for(self._bells.asked, self._spin, _LOOK)
        return not all(self._left)

    def _asking(self, desk: Desk, members: Sequence[int]) -> list[int]:
        """Rows of those who wait for an answer."""
        kinds = desk.asks[:, 0].tolist()
        return [row for row, number in enumerate(members) if kinds[row] != Ask.NOTHING and not self._left[number]]

    def _answer(self, desk: Desk, stack: Stack, members: Sequence[int]) -> None:
        """The requests of the lowest kind."""
        rows = self._asking(desk, members)
        if not rows:
            return
        asks = [tuple(ask) for ask in desk.asks.tolist()]
        kind, size = min(asks[row] for row in rows)
        rows = [row for row in rows if asks[row] == (kind, size)]
        said = [Said.DONE] * len(rows)
        try:
            if kind == Ask.PUT:
                stack.put(rows)
            elif kind == Ask.GET:
                stack.get(rows)
            elif kind == Ask.PLAN:
                stack.plan()
            elif kind == Ask.PROPOSE:
                stack.propose()
            elif kind == Ask.SCORE:
                stack.score(size)
            else:
                said = [Said.DONE if sound else Said.DIVERGED for sound in stack.update(rows)]
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        except Exception as error:  # told in the end; the agents can't go on
            self.error = self.error or error
            said = [Said.FAILED] * len(rows)
        for row, word in zip(rows, said, strict=True):
            desk.said[row] = word
            desk.asks[row, 0] = Ask.NOTHING
            self._bells.answered[members[row]].release()


def _pin(desk: Desk) -> bool:
    """Lets the GPU read and write a desk's memory while the processor goes on; False where it is refused.

    Numbers come and go all the same then, only slower. Memory that was pinned must be let go before it is given back.
    """
    runtime, memory = torch.cuda.cudart(), desk.memory
    refused = runtime.cudaHostRegister(memory.data_ptr(), memory.numel() * memory.element_size(), 0)
    return refused == runtime.cudaError.success
