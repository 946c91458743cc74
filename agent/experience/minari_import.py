"""A Minari data set as experience."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import ExperienceError
from agent.experience import minari_sets
from agent.experience.copies import Copies
from agent.experience.episodes import EpisodeData
from agent.experience.flatten import bounded, flat_space, flatten, scale_actions
from agent.experience.merge import Merged, OnMerged
from agent.experience.minari_sets import OURS
from agent.experience.origin import Origin, stored_origin
from agent.experience.store import Experience


def import_minari(
    experience: Experience, dataset: str | Path, *, task: str | None = None, on_progress: OnMerged | None = None
) -> int:
    """Adds the episodes of a Minari data set; those that are there already are not added again.

    Observations are flattened and become float32, as in `envs.make`; actions are scaled from the bounds of the data
    set's action space to [-1, 1], and clipped there; rewards become float32. Nothing is downloaded. Where an episode
    goes on after it ended, what follows is an episode of its own.

    Args:
        experience: where to.
        dataset: a data set's name, looked for where Minari keeps them (MINARI_DATASETS_PATH), or its folder.
        task: the episodes' task; by default what the data set says, the id of its environment.
        on_progress: called after every episode, and once at least, with one object that goes on changing.

    Returns:
        Decisions that were added.

    Raises:
        ExperienceError: when Minari or the data set is missing, or can't be experience: discrete actions, actions
            without bounds, pixels, NaN or infinity.
    """
    source = _Source(str(dataset), task)
    copies = Copies(experience)
    merged = Merged(str(dataset), source.episodes)
    report = on_progress or (lambda merged: None)
    for piece in source.pieces():
        if copies.has(piece.task, piece.origin):
            merged.known += 1
        else:
            copies.add(
                piece.data,
                piece.origin,
                task=piece.task,
                seed=piece.seed,
                action_repeat=piece.action_repeat,
                extra=piece.extra,
            )
            merged.episodes += 1
            merged.decisions += len(piece.data.rewards)
        report(merged)
    report(merged)
    return merged.decisions


@dataclass(frozen=True)
class _Piece:
    """An episode to add."""

    data: EpisodeData
    task: str
    seed: int | None
    action_repeat: int
    extra: dict[str, Any]
    origin: Origin


class _Source:
    """A data set, opened and looked over."""

    def __init__(self, dataset: str, task: str | None) -> None:
        minari = minari_sets.import_package()
        folder = minari_sets.find(dataset)
        self._metadata = minari_sets.read_metadata(folder)
        self._name = repr(dataset)
        self._identifier = self._metadata["dataset_id"]
        self._task, said = task, _task(self._metadata)
        if task is None and said is None:
            raise ExperienceError(f"the Minari data set {self._name} does not say what task it is of; give it a task")
        self._said = said or ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that other versions of its environment exist
                self._found = minari.MinariDataset(folder)
        except Exception as error:  # whatever Minari makes of a damaged data set
            raise ExperienceError(
                f"the Minari data set {self._name} can't be read: {minari_sets.line(error)}"
            ) from None
        self.episodes = len(self._found)
        self._observations, self._actions = self._found.observation_space, self._found.action_space
        if not bounded(self._actions):
            raise ExperienceError(
                f"the Minari data set {self._name} has actions {self._actions}; preplay needs continuous actions (a "
                "float Box) with finite bounds"
            )
        if not flat_space(self._observations):
            raise ExperienceError(
                f"the Minari data set {self._name} has observations {self._observations}; preplay learns from vectors "
                "of numbers, not from pixels"
            )

    def pieces(self) -> Iterator[_Piece]:
        """Its episodes, one after another."""
        for number in range(self.episodes):
            try:
                (episode,) = self._found.iterate_episodes([number])
                (attributes,) = self._found.storage.get_episode_metadata([number])
                data = self._data(episode)
            except Exception as error:  # whatever h5py and Minari make of a damaged file
                raise ExperienceError(
                    f"episode {number} of the Minari data set {self._name} can't be read: {minari_sets.line(error)}"
                ) from None
            yield from self._pieces(number, data, attributes, episode.infos or {})

    def _data(self, episode: Any) -> EpisodeData:
        """What happened in an episode, as experience; the actors are still to come.

        Raises:
            ValueError: when its parts do not fit together, or are not finite.
        """
        with np.errstate(over="ignore"):  # what float32 can't hold is infinite, and refused
            data = EpisodeData(
                flatten(self._observations, episode.observations),
                scale_actions(self._actions, episode.actions),
                np.asarray(episode.rewards).astype(np.float32),
                np.asarray(episode.terminations).astype(bool),
                np.asarray(episode.truncations).astype(bool),
                [],
            )
        count = len(data.rewards)
        if not len(data.observations) - 1 == len(data.actions) == len(data.terminated) == len(data.truncated) == count:
            raise ValueError("its observations, actions and rewards are not of one length")
        for name in ("observations", "actions", "rewards"):
            if not np.isfinite(getattr(data, name)).all():
                raise ValueError(f"there are NaN or infinite {name}")
        return data

    def _pieces(
        self, number: int, data: EpisodeData, attributes: dict[str, Any], infos: dict[str, Any]
    ) -> Iterator[_Piece]:
        notes = _notes(attributes, infos, self._identifier, len(data.rewards))
        ends = np.flatnonzero(data.terminated | data.truncated) + 1
        bounds = sorted({0, *ends.tolist(), len(data.rewards)})
        for first, last in pairwise(bounds):
            piece = EpisodeData(
                data.observations[first : last + 1],
                data.actions[first:last],
                data.rewards[first:last],
                data.terminated[first:last],
                data.truncated[first:last],
                notes.actors[first:last],
            )
            came_from = Origin(
                f"minari:{self._identifier}", number, first, last - first, float(piece.rewards.astype(np.float64).sum())
            )
            if notes.origin and not first:
                came_from = notes.origin
            # Only the first piece begins where the seed says.
            seed = None if first else notes.seed
            yield _Piece(
                piece, self._task or notes.task or self._said, seed, notes.action_repeat, notes.extra, came_from
            )


@dataclass(frozen=True)
class _Notes:
    """What is known of an episode besides what happened."""

    task: str | None
    seed: int | None
    action_repeat: int
    actors: list[str]
    extra: dict[str, Any]
    origin: Origin | None


def _notes(attributes: dict[str, Any], infos: dict[str, Any], dataset_id: str, count: int) -> _Notes:
    """What an episode's attributes and infos say; what they leave out or say in another way than ours is not known."""
    seed = attributes.get("seed")
    seed = int(seed) if isinstance(seed, int | np.integer) and seed >= 0 else None
    ours = _our_details(attributes.get(OURS))
    numbers = {name: _per_observation(infos.get(name), count) for name in ("actor", "seed", "action_repeat")}
    recorded = all(each is not None for each in numbers.values())
    if ours is None:
        # Minari's own tools leave attributes behind when they join data sets; infos they keep.
        repeat = int(numbers["action_repeat"][0]) if recorded and count else 1
        if recorded and seed is None and count and numbers["seed"][0] >= 0:
            seed = int(numbers["seed"][0])
        return _Notes(None, seed, max(repeat, 1), [dataset_id] * count, {}, None)
    actors = [dataset_id] * count
    if recorded and count and set(numbers["actor"][1:].tolist()) <= set(range(len(ours["actors"]))):
        actors = [ours["actors"][i] for i in numbers["actor"][1:]]
    extra = dict(ours["extra"])
    came_from = stored_origin(extra)
    return _Notes(ours["task"], ours["seed"], ours["action_repeat"], actors, extra, came_from)


def _our_details(stored: Any) -> dict[str, Any] | None:
    """What `export_minari` notes of an episode; None for anything else."""
    try:
        details = json.loads(stored)
    except (TypeError, ValueError, RecursionError):
        return None
    kinds: dict[str, Any] = {
        "task": str,
        "seed": (int, type(None)),
        "action_repeat": int,
        "actors": list,
        "extra": dict,
    }
    if not isinstance(details, dict) or not all(isinstance(details.get(name), kind) for name, kind in kinds.items()):
        return None
    sound = details["action_repeat"] >= 1 and all(isinstance(name, str) for name in details["actors"])
    return details if sound else None


def _per_observation(values: Any, count: int) -> Any:
    """A whole number for every observation, as an array; None for anything else."""
    values = np.asarray(values)
    return values if values.shape == (count + 1,) and np.issubdtype(values.dtype, np.integer) else None


def _task(metadata: dict[str, Any]) -> str | None:
    """The task that a data set says it is of."""
    ours = metadata.get(OURS)
    if isinstance(ours, dict) and isinstance(ours.get("task"), str):
        return ours["task"]
    try:
        identifier = json.loads(metadata["env_spec"])["id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return identifier if isinstance(identifier, str) else None
