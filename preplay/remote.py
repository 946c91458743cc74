"""Environments that live in worker processes, so that those of many runs are stepped at once.

Gymnasium's AsyncVectorEnv steps all its environments together; those of different runs are at different moments, each
run waits for its own alone.
"""

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, TypeVar

import gymnasium

from preplay.errors import UsageError
from preplay.processes import available_cores, depend_on_parent

T = TypeVar("T")
Make = Callable[[], gymnasium.Env[Any, Any]]
"""Makes an environment; it is sent to the process that it is made in."""


class RemoteEnv(gymnasium.Env[Any, Any]):
    """An environment of a worker process. What it raises there is raised here.

    Of `info` only `unstable` is handed on, which is what training reads: a user's environment may put things into it
    that can't be sent.

    Args:
        connection: to the worker, which first tells both spaces.

    Raises:
        UsageError: from here on, when the worker is gone.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.observation_space, self.action_space = self._answer()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        observation, info = self.apply(_reset, seed, options)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One decision."""
        observation, reward, terminated, truncated, info = self.apply(_step, action)
        return observation, reward, terminated, truncated, info

    def get_wrapper_attr(self, name: str) -> Any:
        """An attribute of the environment or of its wrappers."""
        return self.apply(_attribute, name)

    def apply(self, function: Callable[..., T], *args: Any) -> T:
        """What `function(env, *args)` returns, called in the worker."""
        try:
            self._connection.send((function, args))
        except OSError:
            raise _gone() from None
        return self._answer()

    def close(self) -> None:
        """Closes it, in the worker too. Nothing happens when that is gone."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._connection.close()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise _gone() from None
        if isinstance(answer, _Raised):
            raise answer.error
        return answer


class Worlds:
    """Makes environments in worker processes, in the same order.

    Args:
        makes: makes them. Those of one tuple, which are never stepped at once, share a worker.
        workers: processes; by default one a core, but no more than there are tuples.

    Attributes:
        envs: as they were asked for.

    Raises:
        Whatever making one raises; no process is left then.
    """

    def __init__(self, makes: Sequence[tuple[Make, ...]], workers: int | None = None) -> None:
        # A forked process would inherit torch's threads in an unknown state.
        context = multiprocessing.get_context("spawn")
        count = max(min(workers or available_cores(), len(makes)), 1)
        pipes = [[(context.Pipe(), make) for make in several] for several in makes]
        self._processes: list[BaseProcess] = []
        self.envs: list[tuple[RemoteEnv, ...]] = []
        try:
            for number in range(count):
                theirs = [(pipe[1], make) for several in pipes[number::count] for pipe, make in several]
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                self._processes.append(process)
                for connection, _ in theirs:
                    connection.close()  # so that a worker's end is noticed
            self.envs = [tuple(RemoteEnv(pipe[0]) for pipe, _ in several) for several in pipes]
        except BaseException:
            self.end()
            raise

    def close(self) -> None:
        """Closes all environments and ends the processes."""
        for several in self.envs:
            for env in several:
                env.close()
        for process in self._processes:
            process.join(5)
        self.end()

    def end(self) -> None:
        """Ends the processes at once."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(5)

    def __enter__(self) -> "Worlds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where something was raised, a run may still be waiting for its worker.
        self.close() if error is None else self.end()


class _Raised:
    """An error, on its way to where it is raised."""

    def __init__(self, error: Exception) -> None:
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
            self.error = error
        except Exception:  # whatever a user's environment raises
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


def _serve(makes: Sequence[tuple[Connection, Make]]) -> None:
    """In a worker: makes environments, tells their spaces, and does with them what it is asked for."""
    depend_on_parent()
    sys.stdout = sys.stderr  # what an environment prints is no result
    envs: dict[Connection, gymnasium.Env[Any, Any]] = {}
    for connection, make in makes:
        try:
            envs[connection] = env = make()
            connection.send((env.observation_space, env.action_space))
        except Exception as error:
            connection.send(_Raised(error))
    while envs:
        for connection in [each for each in wait(list(envs)) if isinstance(each, Connection)]:
            try:
                asked = connection.recv()
            except EOFError:
                asked = None
            if asked is None:
                envs.pop(connection).close()
                continue
            function, args = asked
            try:
                answer = function(envs[connection], *args)
            except Exception as error:
                answer = _Raised(error)
            try:
                connection.send(answer)
            except Exception as error:  # what can't be sent
                connection.send(_Raised(error))


def _reset(env: gymnasium.Env[Any, Any], seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Any]:
    observation, info = env.reset(seed=seed, options=options)
    return observation, _sent(info)


def _step(env: gymnasium.Env[Any, Any], action: Any) -> tuple[Any, ...]:
    observation, reward, terminated, truncated, info = env.step(action)
    return observation, float(reward), bool(terminated), bool(truncated), _sent(info)


def _attribute(env: gymnasium.Env[Any, Any], name: str) -> Any:
    return env.get_wrapper_attr(name)


def _sent(info: dict[str, Any]) -> dict[str, Any]:
    return {"unstable": bool(info.get("unstable", False))}


def _gone() -> UsageError:
    return UsageError(
        "a process that steps worlds was killed, perhaps for want of memory; nothing saved is lost: the same command "
        "goes on, with fewer --workers or --seeds where memory is short"
    )
