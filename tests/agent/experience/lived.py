"""Stores with episodes that were really played, and comparing them."""

import numpy as np

from agent.experience.episodes import EpisodeData
from agent.experience.store import Experience


def live(
    store: Experience,
    env,
    task: str,
    seed: int,
    decisions: int = 20,
    *,
    end: bool = True,
    action_repeat: int = 2,
    extra: dict | None = None,
) -> None:
    """Random actions by two actors in turn."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    store.begin(observation, task=task, seed=seed, action_repeat=action_repeat, extra=extra)
    for t in range(decisions):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        truncated = truncated or (end and t == decisions - 1)
        store.add(action, reward, observation, terminated, truncated, actor=("random", "other one")[t % 2])
        if terminated or truncated:
            break


def invented(length: int = 7, observation_dim: int = 3, action_dim: int = 2, seed: int = 0, ends: str = "truncated"):
    """An episode that nobody played, with numbers of every size."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-20, 20, shape)).astype(np.float32)

    flags = {name: np.zeros(length, bool) for name in ("terminated", "truncated")}
    if ends:
        flags[ends][-1] = True
    actions = np.clip(numbers(length, action_dim), -1, 1)
    actors = [("", "planner", "Übung 1")[i] for i in rng.integers(3, size=length)]
    return EpisodeData(numbers(length + 1, observation_dim), actions, numbers(length), **flags, actors=actors)


def assert_same(one: EpisodeData, other: EpisodeData, rewards: bool = True) -> None:
    """Bit for bit."""
    names = ["observations", "actions", "terminated", "truncated", *(["rewards"] if rewards else [])]
    for name in names:
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        assert a.tobytes() == b.tobytes(), name
    assert one.actors == other.actors


def facts(store: Experience) -> list:
    """What is known of each episode, but for where it lies."""
    return [
        (
            e.task,
            e.seed,
            e.action_repeat,
            e.observation_dim,
            e.action_dim,
            e.decisions,
            e.episode_return,
            e.terminated,
            e.truncated,
            e.actors,
            {name: value for name, value in e.extra.items() if name not in ("origin", "relabelled_from")},
        )
        for e in store.episodes
    ]
