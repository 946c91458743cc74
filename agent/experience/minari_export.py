"""Stored experience as a Minari data set."""

import json
import os
import shutil
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import spaces

from agent.errors import ExperienceError
from agent.experience import minari_sets
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.merge import Merged, OnMerged
from agent.experience.origin import KEY, origin
from agent.experience.store import Experience

# An attribute in an HDF5 file may take 64 KiB, its header included.
_MOST = 60_000
# Episodes handed to Minari at a time: it opens its file anew for each hand-over.
_CHUNK = 50


def export_minari(
    experience: Experience, dataset_id: str, *, task: str | None = None, on_progress: OnMerged | None = None
) -> int:
    """Writes a task's episodes as a Minari data set, where Minari looks for them (MINARI_DATASETS_PATH).

    Observations, actions, rewards and flags are stored as they are: `import_minari` restores every bit, and whatever
    else is known of an episode. For other readers, `infos` has `actor` (a number), `seed` (-1 where it is not known)
    and `action_repeat`, with one element for every observation. The data set appears once all of it is written.

    Args:
        experience: where from.
        dataset_id: such as `walker/walk-v0`; one that does not exist.
        task: whose episodes; needed where there are several tasks.
        on_progress: called now and then, with one object that goes on changing.

    Returns:
        Decisions that were written.

    Raises:
        ExperienceError: when Minari is missing, when the name is no data set's or is taken, or when the episodes are
            not of one task and one size.
    """
    minari = minari_sets.import_package()
    if not minari_sets.is_name(dataset_id):
        raise ExperienceError(f"{dataset_id!r} can't be a Minari data set's name; expected one like walker/walk-v0")
    episodes = _chosen(experience, task)
    folder = minari_sets.root() / dataset_id
    if folder.exists():
        raise ExperienceError(f"{str(folder)!r} is there already; choose another name or version than {dataset_id!r}")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    merged = Merged(str(experience.folder), len(episodes))
    aside.mkdir(parents=True)
    try:
        storage = _storage(minari, aside, dataset_id, episodes[0])
        for start in range(0, len(episodes), _CHUNK):
            chunk = episodes[start : start + _CHUNK]
            data = [experience.read(episode) for episode in chunk]
            buffers = [_buffer(minari, *pair) for pair in zip(chunk, data, strict=True)]
            details = [{minari_sets.OURS: _details(experience, *pair)} for pair in zip(chunk, data, strict=True)]
            storage.update_episodes(buffers)
            storage.update_episode_metadata(details, range(start, start + len(chunk)))
            merged.episodes += len(chunk)
            merged.decisions += sum(len(each.rewards) for each in data)
            if on_progress:
                on_progress(merged)
        _declare_namespace(dataset_id)
        os.rename(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return merged.decisions


def _chosen(experience: Experience, task: str | None) -> list[Episode]:
    """The episodes to write, of one task and one size."""
    there = sorted({episode.task for episode in experience.episodes})
    where = repr(str(experience.folder))
    if not there:
        raise ExperienceError(f"{where} has no episodes to export")
    if task is None and len(there) > 1:
        raise ExperienceError(f"{where} has episodes of {', '.join(there)}; say which task to export")
    if task is not None and task not in there:
        raise ExperienceError(f"{where} has no episodes of {task}; there are: {', '.join(there)}")
    episodes = [e for e in experience.episodes if e.decisions and task in (None, e.task)]
    if not episodes:
        raise ExperienceError(f"{where} has no decisions of {task or there[0]} to export")
    sizes = {(e.observation_dim, e.action_dim) for e in episodes}
    if len(sizes) != 1:
        raise ExperienceError(
            f"the episodes of {task or there[0]} in {where} have observations and actions of several sizes; "
            "a Minari data set holds one"
        )
    return episodes


def _storage(minari: Any, folder: Any, dataset_id: str, like: Episode) -> Any:
    """A new data set's storage. Not by Minari's `create_dataset_from_buffers`, which wants all episodes in memory."""
    storage = import_module("minari.dataset.minari_storage").MinariStorage.new(
        folder / "data",
        observation_space=spaces.Box(-np.inf, np.inf, (like.observation_dim,), np.float32),
        action_space=spaces.Box(-1, 1, (like.action_dim,), np.float32),
        data_format="hdf5",
    )
    # The task's environment is not noted as Minari's own: its actions are not scaled.
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari.__version__,
            "description": f"{like.task}, recorded by preplay; actions are scaled to [-1, 1]",
            minari_sets.OURS: {"task": like.task},
        }
    )
    return storage


def _buffer(minari: Any, episode: Episode, data: EpisodeData) -> Any:
    count = len(data.rewards)
    names = _actors(data)
    buffer = import_module("minari.data_collector").EpisodeBuffer
    return buffer(
        seed=episode.seed,
        observations=data.observations,
        actions=data.actions,
        rewards=data.rewards,
        terminations=data.terminated.astype(bool),
        truncations=data.truncated.astype(bool),
        infos={
            # Of the decision that led to an observation; nobody's led to the first.
            "actor": np.array([-1, *map(names.index, data.actors)], np.int32),
            "seed": np.full(count + 1, -1 if episode.seed is None else episode.seed, np.int64),
            "action_repeat": np.full(count + 1, episode.action_repeat, np.int32),
        },
    )


def _details(experience: Experience, episode: Episode, data: EpisodeData) -> str:
    """All that Minari has no place for, as JSON."""
    came_from = origin(experience.identity, episode)
    details = json.dumps(
        {
            "task": episode.task,
            "seed": episode.seed,
            "action_repeat": episode.action_repeat,
            "actors": _actors(data),
            "extra": episode.extra | {KEY: came_from.values(episode.decisions)},
        }
    )
    if len(details) > _MOST:
        raise ExperienceError(
            f"what is noted of episode {episode.number} is too long for a Minari data set: {len(details):,} letters, "
            f"of {_MOST:,} at most"
        )
    return details


def _actors(data: EpisodeData) -> list[str]:
    return list(dict.fromkeys(data.actors))


def _declare_namespace(dataset_id: str) -> None:
    namespace = dataset_id.rpartition("/")[0]
    spaces_of = import_module("minari.namespace")
    if namespace and namespace not in spaces_of.list_local_namespaces():
        spaces_of.create_namespace(namespace)
