"""Playing many episodes in worker processes, one torch thread each."""

import multiprocessing
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

import envs
from agent import Agent, Episodes, configure_torch, play
from agent.evaluation import Actor
from agent.processes import available_cores, depend_on_parent, signals_blocked
from preplay.actors import Cast
from preplay.errors import UsageError
from preplay.simulated import SimulatorActor
from preplay.video import Video, remove_unfinished

# Of the frames of a filmed episode.
FILM = {"render_mode": "rgb_array", "width": 320, "height": 240}
# Environments and actors that a worker keeps ready: a comparison of many planners would fill the memory with them.
_READY = 8
_stages: OrderedDict[tuple[Cast, bool], tuple[gymnasium.Env[Any, Any], Actor]] = OrderedDict()


@dataclass(frozen=True)
class Job:
    """One episode to play.

    Attributes:
        cast: who plays what.
        seed: of the episode.
        video: where to write an mp4 of it; None to play unseen.
        stills: decisions, as shares of the episode, whose frames are handed back as well.
    """

    cast: Cast
    seed: int
    video: Path | None = None
    stills: tuple[float, ...] = ()


@dataclass(frozen=True)
class Played:
    """A job that was done: its episode, and its stills (height, width, 3)."""

    job: Job
    episodes: Episodes
    stills: list[NDArray[np.uint8]]


def play_jobs(jobs: list[Job], workers: int | None = None) -> Iterator[Played]:
    """Plays episodes in parallel and hands them on in the order in which they end.

    Leaving early, by an error or Ctrl-C, ends the workers. Before the error of an episode is raised, those that had
    ended by then are handed on.

    Args:
        jobs: the first ones begin first.
        workers: processes; by default one a core.

    Raises:
        UsageError: when a worker was killed.
    """
    count = min(workers or available_cores(), len(jobs))
    # A forked process would inherit torch's and OpenGL's threads in an unknown state.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=depend_on_parent)
    try:
        with signals_blocked():  # with the first jobs the workers begin
            waiting: set[Future[Played]] = {pool.submit(play_job, job) for job in jobs}
        for done in as_completed(list(waiting)):
            waiting.remove(done)
            failure = done.exception()
            if failure is not None:
                for other in waiting:
                    if other.done() and other.exception() is None:
                        yield other.result()
                raise failure
            yield done.result()
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        running = multiprocessing.active_children()
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.join(5)
        for job in jobs:  # a worker that is terminated has no time to tidy up
            if job.video is not None:
                remove_unfinished(job.video)
        if isinstance(error, BrokenProcessPool):
            raise UsageError(
                "a process that played episodes was killed, perhaps for want of memory; try again with fewer --workers"
            ) from None
        raise
    pool.shutdown()


def play_job(job: Job) -> Played:
    """Plays one episode, in this process."""
    env, actor = _stage(job.cast, job.video is not None)
    agent = actor.agent if isinstance(actor, SimulatorActor) else actor
    if isinstance(agent, Agent):  # since this one was loaded, another one may have configured the process
        configure_torch(agent.config)
    if job.video is None:
        return Played(job, play(actor, env, [job.seed]), [])
    frames: list[NDArray[np.uint8]] = []
    with Video(job.video, 1 / envs.decision_seconds(env)) as video:

        def show(_: int, frame: NDArray[np.uint8]) -> None:
            video.add(frame)
            frames.append(frame)

        episodes = play(actor, env, [job.seed], on_frame=show)
    return Played(job, episodes, [frames[round(share * (len(frames) - 1))] for share in job.stills])


def _stage(cast: Cast, filmed: bool) -> tuple[gymnasium.Env[Any, Any], Actor]:
    """An environment and an actor; a worker makes them once, unless it has met many others since."""
    key = cast, filmed
    if key not in _stages:
        while len(_stages) >= _READY:
            _, (left, who) = _stages.popitem(last=False)
            left.close()
            if isinstance(who, SimulatorActor):
                who.simulator.close()
        options: dict[str, Any] = FILM if filmed else {}
        env = cast.env(**options)
        actor = cast.actor(env)
        # Much is loaded at the first decision, and nobody's timing should pay for it.
        observation, _ = env.reset(seed=0)
        actor.act(observation)
        _stages[key] = env, actor
    _stages.move_to_end(key)
    return _stages[key]
