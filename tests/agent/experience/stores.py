"""Stores whose content says what it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from agent import Experience

Fill = tuple[list[int], bool]


def fill(experience: Experience, lengths: list[int], terminated: bool = True, first: int = 0) -> Experience:
    """Episodes of these lengths; observation (episode, time), reward = time, action = 100 episode + time."""
    for episode, length in enumerate(lengths, first):
        experience.begin([episode, 0], task="toy", seed=episode, extra={"from": "test"})
        for t in range(length):
            last = t == length - 1
            experience.add(
                [episode * 100 + t], float(t), [episode, t + 1], last and terminated, last and not terminated, actor(t)
            )
    return experience


def actor(t: int) -> str:
    return ("", "policy", "planner")[t % 3]


def contents(experience: Experience) -> list[dict[str, Any]]:
    """All that the episodes of a store consist of."""
    return [
        {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in (vars(episode) | vars(experience.read(episode))).items()
        }
        | {"counts": episode.actors}
        for episode in experience.episodes
    ]


def drawn(experience: Experience, seed: int = 0, length: int = 3) -> list[Any]:
    """What a seed samples."""
    if not len(experience):
        return []
    batch = experience.sample(64, length, np.random.default_rng(seed))
    return [x.tolist() for x in vars(batch).values()]


def files(folder: Path) -> dict[str, Any]:
    """The files of a store but for what differs between any two: identities, and checksums that cover them."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".segment":
            data = path.read_bytes()
            header = json.loads(data[12 : 12 + int.from_bytes(data[:4], "little")])
            found[path.name] = {k: v for k, v in header.items() if k not in ("uuid", "store")}, data[4096:]
        elif path.suffix == ".json":
            index = json.loads(path.read_text())["index"]
            found[path.name] = {k: v for k, v in index.items() if k not in ("uuid", "crc")}
        else:
            found[path.name] = path.read_bytes()
    return found
