"""Experience of earlier runs, of the same task or of another one in the same world, for a new run."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from agent.errors import ExperienceError
from agent.experience import lock, segment
from agent.experience.episodes import Episode
from agent.experience.merge import OnMerged, merge
from agent.experience.store import Experience
from preplay.errors import UsageError

MakeEnv = Callable[[str], gymnasium.Env[Any, Any]]


def recall(
    sources: Sequence[Path],
    into: Experience,
    task: str,
    action_repeat: int,
    make_env: MakeEnv,
    on_progress: OnMerged | None = None,
    sizes: tuple[int, int] | None = None,
) -> int:
    """Copies stored episodes as experience of a task; where they are of another task, with this task's rewards.

    It can be interrupted and repeated: what is there already is not copied again.

    Args:
        sources: stores, or run folders with one.
        into: where to.
        task: whose rewards.
        action_repeat: environment steps a decision; all episodes must have the same.
        make_env: makes an environment of the task by its name; called once at most, and only where rewards have to be
            found anew. Whoever gives it closes what it made.
        on_progress: called after every episode, and once at least for every source; see `Merged`, which also tells how
            many decisions were relabelled.
        sizes: elements of an observation and of an action that all episodes must have; None takes any.

    Returns:
        Decisions that were copied.

    Raises:
        UsageError: when a source is no store, or has episodes that can't be of this task: of another world, without a
            seed, or with another action repeat. Nothing is undone then; what was copied stays.
    """
    made: list[gymnasium.Env[Any, Any]] = []

    def env(name: str) -> gymnasium.Env[Any, Any]:
        if not made:
            made.append(make_env(name))
        return made[0]

    folders = [store_folder(source) for source in sources]
    # All are looked over before the first is copied, which may take minutes.
    for folder in folders:
        with Experience(folder, read_only=True) as other:
            tell_damage(other)
            for episode in other.episodes:
                _check(folder, episode, task, action_repeat, sizes)
    decisions = 0
    for folder in folders:
        with Experience(folder, read_only=True) as other:
            try:
                decisions += merge(into, other, task=task, make_env=env, on_progress=on_progress)
            except ExperienceError as error:
                raise UsageError(f"the experience in {str(folder)!r} can't be used for {task}: {error}") from None
    return decisions


def tell_damage(experience: Experience) -> None:
    """Says on standard error what of a store can't be read."""
    for sentence in experience.dropped:
        print(f"preplay: damage in {experience.folder} {sentence}", file=sys.stderr)


def store_folder(place: Path) -> Path:
    """The store in a folder: the folder itself, or `experience` in the folder of a run.

    Raises:
        UsageError: when there is none.
    """
    for folder in (place, place / "experience"):
        if folder.is_dir() and ((folder / lock.NAME).exists() or segment.numbers(folder)):
            return folder
    raise UsageError(
        f"{str(place)!r} has no stored experience; expected a store, or the folder of a run, that `preplay train` wrote"
    )


def _check(folder: Path, episode: Episode, task: str, action_repeat: int, sizes: tuple[int, int] | None) -> None:
    found = episode.observation_dim, episode.action_dim
    what = f"episode {episode.number} of {episode.task} in {str(folder)!r}"
    if sizes is not None and found != sizes:
        raise UsageError(
            f"{what} has observations and actions of {found[0]} and {found[1]} elements, where {task} has {sizes[0]} "
            f"and {sizes[1]}; choose another store"
        )
    if episode.action_repeat != action_repeat:
        raise UsageError(
            f"{what} has decisions of {episode.action_repeat} environment steps, where {task} is to have "
            f"{action_repeat}; choose another store, or the same action repeat"
        )
    if episode.task != task and episode.seed is None:
        raise UsageError(
            f"{what} was stored without its seed, so it can't be played again for the rewards of {task}; choose "
            "another store"
        )
