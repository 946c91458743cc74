"""Where an episode was first stored, so that an episode that is copied twice is there once."""

from dataclasses import asdict, dataclass
from typing import Any

from agent.experience.episodes import Episode

_TYPES: dict[str, tuple[type, ...]] = {
    "store": (str,),
    "episode": (int,),
    "first": (int,),
    "decisions": (int,),
    "episode_return": (float, int),
    "cut": (bool,),
    "copied": (int,),
}
# Under this name a copied episode's `extra` holds its origin.
KEY = "origin"


@dataclass(frozen=True)
class Origin:
    """What identifies an episode among those of all stores.

    Number and store are not enough: two copies of a store may go on differently.

    Attributes:
        store: identity of the store, or of the data set, that held it first.
        episode: its number there.
        first: decision of that episode that it begins with.
        decisions: how many there were.
        episode_return: the sum of their rewards.
        cut: whether it neither terminated nor was truncated; it may have gone on since, with more decisions.
    """

    store: str
    episode: int
    first: int = 0
    decisions: int = 0
    episode_return: float = 0.0
    cut: bool = False

    @property
    def begins(self) -> tuple[str, int, int]:
        """What identifies an episode that may have gone on since."""
        return self.store, self.episode, self.first

    def values(self, copied: int) -> dict[str, Any]:
        """What is stored with a copy, of so many decisions."""
        return asdict(self) | {"copied": copied}


def origin(store: str, episode: Episode) -> Origin:
    """An episode's origin: what is stored with it, or the store that it is in.

    Args:
        store: identity of the store that it is in.
        episode: one of that store's.
    """
    cut = not (episode.terminated or episode.truncated)
    return stored_origin(episode.extra) or Origin(
        store, episode.number, 0, episode.decisions, episode.episode_return, cut
    )


def stored_origin(extra: dict[str, Any]) -> Origin | None:
    """The origin that is stored with an episode; None where it was lived through in the store that it is in."""
    values = _stored(extra)
    return None if values is None else Origin(**{name: values[name] for name in values if name != "copied"})


def stored_length(extra: dict[str, Any]) -> int | None:
    """The decisions that a copy was to have; None where an episode is no copy."""
    values = _stored(extra)
    return None if values is None else values["copied"]


def _stored(extra: dict[str, Any]) -> dict[str, Any] | None:
    stored = extra.get(KEY)
    # Stores come from strangers too; what is no origin of ours is none.
    if not isinstance(stored, dict) or stored.keys() != _TYPES.keys():
        return None
    return stored if all(type(stored[name]) in kinds for name, kinds in _TYPES.items()) else None
