"""Episodes that come from elsewhere, each once."""

from typing import Any

from agent.errors import ExperienceError
from agent.experience.episodes import Episode, EpisodeData
from agent.experience.origin import KEY, Origin, origin, stored_length
from agent.experience.store import Experience


class Copies:
    """What a store has already, and adding to it.

    Args:
        into: the store.
    """

    def __init__(self, into: Experience) -> None:
        self._into = into
        self._whole: set[tuple[str, Origin]] = set()
        self._cut: set[tuple[str, tuple[str, int, int]]] = set()
        self._torn: tuple[Episode, Origin] | None = None
        for episode in into.episodes:
            came_from = origin(into.identity, episode)
            if _is_torn(episode):
                self._torn = episode, came_from
            else:
                self._note(episode.task, came_from)
        # Only the newest can still be completed.
        if self._torn is not None and self._torn[0].number != into.episodes[-1].number:
            self._torn = None

    def has(self, task: str, origin: Origin) -> bool:
        """Whether an episode is there. Of one that was copied while it went on, no second, longer copy is wanted."""
        return (task, origin) in self._whole or (task, origin.begins) in self._cut

    def add(
        self,
        data: EpisodeData,
        origin: Origin,
        *,
        task: str,
        seed: int | None,
        action_repeat: int,
        extra: dict[str, Any],
    ) -> None:
        """Stores an episode with its origin; one that a kill left unfinished here is completed.

        Raises:
            ExperienceError: when it can't be stored.
        """
        length = len(data.rewards)
        torn, self._torn = self._torn, None
        try:
            if torn is None or (torn[0].task, torn[1]) != (task, origin) or not self._complete(torn[0], data):
                extra = extra | {KEY: origin.values(length)}
                self._into.append(data, task=task, seed=seed, action_repeat=action_repeat, extra=extra)
        except ExperienceError:
            raise
        except ValueError as error:
            raise ExperienceError(f"episode {origin.episode} of {task} can't be stored: {error}") from None
        self._note(task, origin)

    def _note(self, task: str, origin: Origin) -> None:
        self._whole.add((task, origin))
        if origin.cut:
            self._cut.add((task, origin.begins))

    def _complete(self, torn: Episode, data: EpisodeData) -> bool:
        """Adds what is missing of an episode that was being written; False where it can't be its beginning."""
        done = torn.decisions
        there = self._into.read(torn)
        if not (
            there.observations.tobytes() == data.observations[: done + 1].tobytes()
            and there.actions.tobytes() == data.actions[:done].tobytes()
            and there.rewards.tobytes() == data.rewards[:done].tobytes()
        ):
            return False
        # It runs again as if it had been running.
        self._into.rewind(self._into.offset | {"running": True})
        for t in range(done, len(data.rewards)):
            self._into.add(
                data.actions[t],
                float(data.rewards[t]),
                data.observations[t + 1],
                bool(data.terminated[t]),
                bool(data.truncated[t]),
                data.actors[t],
            )
        self._into.end_episode()
        return True


def _is_torn(episode: Episode) -> bool:
    """Whether a kill or a power cut left only a part of a copy."""
    length = stored_length(episode.extra)
    return length is not None and episode.decisions < length
