"""Many runs at once, each in a process of its own."""

import contextlib
import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.synchronize import Semaphore
from typing import Any, Generic, TypeVar

import torch

from agent.config import TrainConfig
from agent.errors import ConfigError, ProcessError
from agent.many.desk import Desk
from agent.many.host import Host
from agent.many.networks import Shape
from agent.many.seat import Seat
from agent.many.waiting import Bells
from agent.processes import available_cores, depend_on_parent, signals_blocked

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of a run.

    Attributes:
        result: what it returned; None where it failed.
        error: that ended it; None where it came to its end.
    """

    result: T | None
    error: Exception | None


class Post:
    """What a run has to do with, in its process.

    Attributes:
        engine: what its trainer's `engine` must be. The trainer's own device is the CPU.
    """

    def __init__(
        self, connection: Connection, config: TrainConfig, asked: Semaphore, answered: Semaphore, spin: float
    ) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._places: queue.SimpleQueue[tuple[Desk, int] | Exception] = queue.SimpleQueue()
        self.engine = Seat(self._open, config, asked, answered, spin)
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, what: Any) -> None:
        """Sends something to who began the runs."""
        self._send("tell", what)

    def on_stop(self, stop: Callable[[], object]) -> None:
        """What to call when the runs are to be stopped, such as `trainer.stop`; on a thread of its own."""

        def watch() -> None:
            self._stopping.wait()
            stop()

        threading.Thread(target=watch, daemon=True).start()

    def _open(self, shape: Shape) -> tuple[Desk, int]:
        self._send("shape", shape)
        place = self._places.get()
        if isinstance(place, Exception):
            raise place
        return place

    def _listen(self) -> None:
        while True:
            try:
                heard = self._connection.recv()
            except Exception as error:  # such as too many open files; who waits for a place must hear of it
                self._places.put(error)
                return
            if heard is None:
                self._stopping.set()
            else:
                self._places.put(heard)

    def _send(self, kind: str, what: Any) -> None:
        with self._lock:
            self._connection.send((kind, what))


Life = Callable[[Post], T]
"""A run: makes a trainer and trains. It is sent to the process that it is called in."""


class Together:
    """Trains many agents at once, the heavy computations of all in one call each.

    Every agent is an ordinary run of its own `Trainer`, in a process of its own that steps its world, keeps its
    experience and draws its batches. What is learned lies in this process, on its device, stacked. Agents' planning and
    updates come out as they would alone, to rounding.

        def life(post):
            trainer = Trainer(..., engine=post.engine)
            post.on_stop(trainer.stop)
            return trainer.run()

        outcomes = Together([life] * 3, config, device).run()

    Args:
        lives: the runs.
        config: of all, but for their seeds, their steps and how they are watched.
        device: to compute on.
        on_tell: called with a run's number and what it tells, on a thread of its own. Where it fails, so does the
            whole: the runs are stopped.
        on_end: called with a run's number and outcome as soon as it ends, on that thread too; likewise.
    """

    def __init__(
        self,
        lives: Sequence[Life[T]],
        config: TrainConfig,
        device: torch.device | str = "cpu",
        on_tell: Callable[[int, Any], None] | None = None,
        on_end: Callable[[int, Outcome[T]], None] | None = None,
    ) -> None:
        if config.overlap:
            raise ConfigError("runs that train together can't overlap acting and learning; set overlap to 0")
        self._lives, self._config = lives, config
        self._on_tell, self._on_end = on_tell, on_end
        # A forked process would inherit torch's threads in an unknown state.
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._lock = threading.RLock()  # of what is sent to the processes, also by a signal handler
        # Without a core for each, who waits would keep those from working that are waited for.
        self._spin = _SPIN if available_cores() > len(lives) else 0.0
        answered = [self._context.Semaphore(0) for _ in lives]
        self._bells = Bells(self._context.Semaphore(0), answered)
        self._host = Host(config, torch.device(device), self._bells, self._spin)
        self._processes: list[SpawnProcess] = []
        self._listener: threading.Thread | None = None
        self._stopped = self._ended = False
        self._error: Exception | None = None

    def stop(self) -> None:
        """Asks all runs to stop; from a signal handler or another thread."""
        self._stopped = True  # and those that are yet to begin
        for number in range(len(self._connections)):
            self._send(number, None)

    def _end(self) -> None:
        """Ends all processes at once."""
        self._ended = True
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        if self._listener is not None:
            self._listener.join()

    def run(self) -> list[Outcome[T]]:
        """Lets all runs come to their end. One that fails does not end the others."""
        outcomes: list[Outcome[T]] = [Outcome(None, _gone()) for _ in self._lives]
        try:
            with signals_blocked():
                for life, answered in zip(self._lives, self._bells.answered, strict=True):
                    self._start(life, answered)
            if self._stopped:
                self.stop()
            self._listener = threading.Thread(target=self._listen, args=(outcomes,), daemon=True)
            self._listener.start()
            self._host.serve()
            self._listener.join()
            for process in self._processes:
                process.join()
        finally:
            self._end()
        error = self._host.error or self._error
        if error is not None:
            raise error
        return outcomes

    def _start(self, life: Life[T], answered: Semaphore) -> None:
        """Begins a run."""
        ours, theirs = self._context.Pipe()
        arguments = life, theirs, self._config, self._bells.asked, answered, self._spin
        process = self._context.Process(target=_live, args=arguments, daemon=True)
        process.start()
        theirs.close()  # so that a process's end is noticed
        self._processes.append(process)
        self._connections.append(ours)

    def _listen(self, outcomes: list[Outcome[T]]) -> None:
        """Hears what the processes say, until all have ended."""
        numbers = {connection: number for number, connection in enumerate(self._connections)}
        while numbers:
            for connection in [each for each in wait(list(numbers)) if isinstance(each, Connection)]:
                number = numbers[connection]
                try:
                    kind, what = connection.recv()
                except (EOFError, ConnectionError):
                    kind, what = "end", outcomes[number]
                except Exception as error:  # what it said can't be read here, and so the rest neither
                    self._processes[number].kill()
                    kind, what = "end", Outcome(None, error)
                if kind == "shape":
                    self._host.introduce(number, what)
                    threading.Thread(target=self._seat, args=(number,), daemon=True).start()
                elif kind == "tell":
                    self._call(self._on_tell, number, what)
                else:
                    del numbers[connection]
                    outcomes[number] = what
                    self._host.leave(number)
                    self._call(self._on_end, number, what)

    def _call(self, callback: Callable[[int, Any], None] | None, number: int, what: Any) -> None:
        """Passes on what a run says, as long as somebody listens."""
        if callback is None or self._error is not None or self._ended:
            return
        try:
            callback(number, what)
        except Exception as error:  # such as a full disk; were it to end this thread, all would wait for ever
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Stops all runs; `run` raises the first error when they have saved where they are."""
        self._error = self._error or error
        self.stop()

    def _seat(self, number: int) -> None:
        """Sends an agent to its desk, once there is one."""
        self._send(number, self._host.place(number))

    def _send(self, number: int, what: tuple[Desk, int] | None) -> None:
        try:
            with self._lock:
                self._connections[number].send(what)
        except ConnectionError:
            pass  # it is gone
        except Exception as error:  # such as too many open files: it would wait for ever
            self._processes[number].kill()
            self._fail(error)


_SPIN = 0.02  # seconds


def _live(
    life: Life[Any],
    connection: Connection,
    config: TrainConfig,
    asked: Semaphore,
    answered: Semaphore,
    spin: float,
) -> None:
    """In a process: a run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent's business, too: it asks the runs to stop
    depend_on_parent()
    torch.set_num_threads(config.threads)
    try:
        outcome: Outcome[Any] = Outcome(life(Post(connection, config, asked, answered, spin)), None)
    except BaseException as error:
        outcome = Outcome(None, _sendable(error))
    with contextlib.suppress(ConnectionError):
        try:
            connection.send(("end", outcome))
        except ConnectionError:
            raise
        except Exception as error:  # what it returned can't be sent
            connection.send(("end", Outcome(None, _sendable(error))))


def _sendable(error: BaseException) -> Exception:
    """An error as it can be sent; one that can't, or that nobody expects, with its traceback as text."""
    with contextlib.suppress(Exception):
        if isinstance(error, Exception) and type(ForkingPickler.loads(ForkingPickler.dumps(error))) is type(error):
            error.add_note("".join(traceback.format_exception(error)))
            return error
    return RuntimeError("".join(traceback.format_exception(error)).rstrip())


def _gone() -> ProcessError:
    return ProcessError(
        "its process was killed, perhaps for want of memory; nothing saved is lost: the same command goes on, with "
        "fewer --tasks or --seeds where memory is short"
    )
