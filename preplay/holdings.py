"""What a store of experience holds, as numbers and as a table."""

import statistics
from typing import Any

from rich.markup import escape
from rich.table import Table

from agent.experience.episodes import Episode
from agent.experience.store import Experience

# The newest returns are the mean of so many episodes.
NEWEST = 10


def holdings(experience: Experience) -> dict[str, Any]:
    """All that there is to say of a store, as JSON takes it."""
    episodes = experience.episodes
    by_task: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_task.setdefault(episode.task, []).append(episode)
    first = min((episode.first for episode in episodes), default=experience.total)
    return {
        "store": str(experience.folder),
        "identity": experience.identity,
        "episodes": len(episodes),
        "decisions": len(experience),
        # Absolute numbers, from the first decision that is still there to the one after the last.
        "span": [first, experience.total],
        "total": experience.total,
        "evicted": experience.total - len(experience),
        "segments": len(list(experience.folder.glob("*.segment"))),
        "bytes": experience.disk_bytes,
        "running": any(episode.running for episode in episodes),
        "dropped": list(experience.dropped),
        "kept_aside": sorted(file.name for file in experience.folder.glob("dropped-*.bin")),
        "tasks": [_of_task(task, some) for task, some in sorted(by_task.items())],
    }


def _of_task(task: str, episodes: list[Episode]) -> dict[str, Any]:
    # A running episode's return says nothing yet.
    returns = [episode.episode_return for episode in episodes if not episode.running]
    seeds = [episode.seed for episode in episodes if episode.seed is not None]
    actors: dict[str, int] = {}
    for episode in episodes:
        for name, decisions in episode.actors.items():
            actors[name] = actors.get(name, 0) + decisions
    return {
        "task": task,
        "episodes": len(episodes),
        "decisions": sum(episode.decisions for episode in episodes),
        "environment_steps": sum(episode.decisions * episode.action_repeat for episode in episodes),
        "action_repeat": sorted({episode.action_repeat for episode in episodes}),
        "sizes": sorted({(episode.observation_dim, episode.action_dim) for episode in episodes}),
        "returns": {
            "mean": statistics.fmean(returns) if returns else None,
            "min": min(returns, default=None),
            "max": max(returns, default=None),
            "newest": statistics.fmean(returns[-NEWEST:]) if returns else None,
        },
        "terminated": sum(episode.terminated for episode in episodes),
        "truncated": sum(episode.truncated for episode in episodes),
        "actors": actors,
        "seeds": [min(seeds), max(seeds)] if seeds else None,
    }


def table(values: dict[str, Any]) -> Table:
    """A row for each task."""
    made = Table(box=None, pad_edge=False)
    made.add_column("task", overflow="fold")
    for name in ("episodes", "decisions", "steps", "return", "min", "max", "newest"):
        made.add_column(name, justify="right", no_wrap=True)
    for task in values["tasks"]:
        returns = [task["returns"][name] for name in ("mean", "min", "max", "newest")]
        made.add_row(
            escape(plain(task["task"])),
            *(f"{task[name]:,}" for name in ("episodes", "decisions", "environment_steps")),
            *map(_number, returns),
        )
    return made


def lines(values: dict[str, Any]) -> list[str]:
    """What is to say besides: of each task, and of the whole."""
    first, last = values["span"]
    said = [_who(task) for task in values["tasks"]]
    said += [
        f"{values['episodes']:,} episodes, {values['decisions']:,} decisions"
        + (f" (numbers {first:,} to {last - 1:,})" if last > first else "")
        + (f", {values['evicted']:,} older ones evicted" if values["evicted"] else ""),
        f"{size(values['bytes'])} in {values['segments']} segment{'' if values['segments'] == 1 else 's'}",
    ]
    if values["running"]:
        said.append("an episode is running")
    said += [f"damage: {sentence}" for sentence in values["dropped"]]
    return said + [f"{name} holds what an earlier opening found damaged and cut off" for name in values["kept_aside"]]


def plain(name: str) -> str:
    """A name as it can be shown: stores come from strangers too, and a terminal obeys what can't be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def size(count: int) -> str:
    """Bytes for people."""
    amount, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:,.0f} {units[0]}" if units[0] == "bytes" else f"{amount:,.1f} {units[0]}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if abs(value) < 1e6 else f"{value:.3g}"


def _who(task: dict[str, Any]) -> str:
    actors = ", ".join(f"{plain(name) or 'unnamed'} {count:,}" for name, count in task["actors"].items())
    said = f"{plain(task['task'])}: decisions by {actors or 'nobody'}"
    if task["seeds"] is None:
        return f"{said}; seeds unknown"
    low, high = task["seeds"]
    return f"{said}; seed {low}" if low == high else f"{said}; seeds {low} to {high}"
