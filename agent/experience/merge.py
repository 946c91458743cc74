"""Copying the episodes of one store into another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium

from agent.errors import ExperienceError
from agent.experience.copies import Copies
from agent.experience.origin import origin
from agent.experience.relabel import relabel
from agent.experience.store import Experience

# Under this name the `extra` of a relabelled episode holds the task that it was played for.
RELABELLED = "relabelled_from"


@dataclass
class Merged:
    """How far a merge is.

    Attributes:
        store: the folder that episodes come from.
        total: episodes in it that have decisions.
        episodes: of those, copied.
        decisions: of the copied episodes.
        relabelled: decisions whose rewards are those of another task now; they are among `decisions`.
        known: episodes that were there already.
    """

    store: str
    total: int
    episodes: int = 0
    decisions: int = 0
    relabelled: int = 0
    known: int = 0

    @property
    def done(self) -> int:
        """Episodes that have been dealt with."""
        return self.episodes + self.known


OnMerged = Callable[[Merged], None]


def merge(
    into: Experience,
    other: Experience,
    *,
    task: str | None = None,
    make_env: Callable[[str], gymnasium.Env[Any, Any]] | None = None,
    on_progress: OnMerged | None = None,
) -> int:
    """Copies all episodes of another store, with their tasks, seeds, action repeats, actors and extras.

    It can be interrupted and repeated at any time: an episode that is there already is not copied again, by whatever
    way it came. Of a running episode the decisions so far are copied, as an episode that was cut off there; the rest
    of it is not copied later.

    Args:
        into: where to.
        other: where from; it is not changed.
        task: take all episodes as this task's. Those of other tasks are relabelled, see `agent.experience.relabel`.
        make_env: makes the task's environment by its name, where episodes may have to be relabelled; called once at
            most, and whoever gives it closes what it made.
        on_progress: called after every episode, and once at least, with one object that goes on changing.

    Returns:
        Decisions that were copied.

    Raises:
        ExperienceError: for a store into itself, and for an episode that can't be relabelled.
    """
    if into.folder.resolve() == other.folder.resolve():
        raise ExperienceError(f"{str(into.folder)!r} can't be merged into itself; name another store")
    copies = Copies(into)
    episodes = [episode for episode in other.episodes if episode.decisions]
    merged = Merged(str(other.folder), len(episodes))
    report = on_progress or (lambda merged: None)
    env: gymnasium.Env[Any, Any] | None = None
    for episode in episodes:
        name = task or episode.task
        came_from = origin(other.identity, episode)
        if copies.has(name, came_from):
            merged.known += 1
            report(merged)
            continue
        extra = dict(episode.extra)
        data = other.read(episode)
        if name != episode.task:
            if env is None:
                assert make_env is not None, "episodes of other tasks need an environment to be relabelled in"
                env = make_env(name)
            data = relabel(data, episode, env)
            extra.setdefault(RELABELLED, episode.task)
            merged.relabelled += len(data.rewards)
        copies.add(data, came_from, task=name, seed=episode.seed, action_repeat=episode.action_repeat, extra=extra)
        merged.episodes += 1
        merged.decisions += len(data.rewards)
        report(merged)
    report(merged)
    return merged.decisions
