"""Playing many episodes in worker processes, one torch thread each."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

import envs
from agent import Agent, Episodes, RandomActor, play
from preplay.actors import Cast
from preplay.video import Video, remove_unfinished

# Of the frames of a filmed episode.
FILM = {"render_mode": "rgb_array", "width": 320, "height": 240}


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


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def play_jobs(jobs: list[Job], workers: int | None = None) -> Iterator[Played]:
    """Plays episodes in parallel and hands them on in the order in which they end.

    Leaving early, by an error or Ctrl-C, ends the workers.

    Args:
        jobs: the first ones begin first.
        workers: processes; by default one a core.
    """
    count = min(workers or available_cores(), len(jobs))
    # A forked process would inherit torch's and OpenGL's threads in an unknown state.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        for done in as_completed([pool.submit(play_job, job) for job in jobs]):
            yield done.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        running = multiprocessing.active_children()
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.join(5)
        for job in jobs:  # a worker that is terminated has no time to tidy up
            if job.video is not None:
                remove_unfinished(job.video)
        raise
    pool.shutdown()


def play_job(job: Job) -> Played:
    """Plays one episode, in this process."""
    env, actor = _stage(job.cast, job.video is not None)
    if job.video is None:
        return Played(job, play(actor, env, [job.seed]), [])
    frames: list[NDArray[np.uint8]] = []
    with Video(job.video, 1 / envs.decision_seconds(env)) as video:

        def show(_: int, frame: NDArray[np.uint8]) -> None:
            video.add(frame)
            frames.append(frame)

        episodes = play(actor, env, [job.seed], on_frame=show)
    return Played(job, episodes, [frames[round(share * (len(frames) - 1))] for share in job.stills])


@cache
def _stage(cast: Cast, filmed: bool) -> tuple[gymnasium.Env[Any, Any], Agent | RandomActor]:
    """An environment and an actor, made once for each worker."""
    options: dict[str, Any] = FILM if filmed else {}
    env = cast.env(**options)
    return env, cast.actor(env)
