"""Who plays: a trained agent with a planner, its policy prior alone, or random actions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

import envs
import planners
from agent import MOST_SEEDS, Agent, RandomActor, configure_torch, describe
from planners.errors import nearest
from preplay.errors import UsageError
from preplay.shipped import checkpoint_for

RANDOM, POLICY = "random", "policy"


@dataclass(frozen=True)
class Cast:
    """What it takes to play a task, by name, so that a worker process can set it up for itself.

    Attributes:
        task: the name.
        planner: a registered planner, `policy` or `random`; None for the one the agent was trained with.
        checkpoint: the agent's folder; None for random actions where no agent is at hand.
        action_repeat: environment steps of a decision.
        planning: planning options that differ from the checkpoint's.
        device: `auto`, `cpu` or `cuda`.
    """

    task: str
    planner: str | None
    checkpoint: Path | None
    action_repeat: int
    planning: tuple[tuple[str, Any], ...] = ()
    device: str = "auto"

    def env(self, **options: Any) -> gymnasium.Env[Any, Any]:
        """The environment, as `envs.make` makes it."""
        return envs.make(self.task, action_repeat=self.action_repeat, **options)

    def actor(self, env: gymnasium.Env[Any, Any]) -> Agent | RandomActor:
        """The actor, for an environment of `env()`.

        Raises:
            UsageError: when the checkpoint doesn't fit the environment.
        """
        size = env.action_space.shape[0]  # type: ignore[index]
        if self.planner == RANDOM:
            return RandomActor(size)
        assert self.checkpoint is not None
        agent = Agent.load(self.checkpoint, self.device)
        configure_torch(agent.config)
        if agent.observation_space.shape != env.observation_space.shape or agent.action_space != env.action_space:
            raise UsageError(
                f"the checkpoint {str(self.checkpoint)!r} expects observations {agent.observation_space.shape} and "
                f"actions {agent.action_space.shape}; {self.task!r} has {env.observation_space.shape} and "
                f"{env.action_space.shape}"
            )
        changes = dict(self.planning)
        if self.planner is not None:
            changes["planner"] = self.planner
        return agent.use_planner(**changes)


def cast(
    task: str, planner: str | None = None, checkpoint: Path | None = None, device: str = "auto", **planning: Any
) -> Cast:
    """Checks names and folders, and settles what the checkpoint says of the rest.

    Args:
        task: as `envs.find` takes it.
        planner: None for the one the agent was trained with.
        checkpoint: None for the agent that ships.
        device: for the agent.
        planning: options to change; those that are None stay as they are.

    Raises:
        envs.TaskError, agent.CheckpointError, UsageError: with a sentence about what is wrong.
    """
    found = envs.find(task)
    check_planner(planner)
    check_time_limit(found)
    if planner == RANDOM and checkpoint is None:
        try:
            checkpoint = checkpoint_for(found, None)
        except UsageError:
            return Cast(found.name, RANDOM, None, found.action_repeat)
    folder = checkpoint_for(found, checkpoint)
    changes = tuple(sorted((k, v) for k, v in planning.items() if v is not None))
    return Cast(found.name, planner, folder, describe(folder)["action_repeat"], changes, device)


def check_seeds(first: int, episodes: int) -> None:
    """Makes sure that every episode has a seed that all simulators take.

    Raises:
        UsageError: when one of them hasn't.
    """
    if first < 0 or first + episodes > MOST_SEEDS:
        raise UsageError(
            f"--seed is {first} and --episodes {episodes}; the episodes' seeds must lie between 0 and {MOST_SEEDS - 1}"
        )


def check_time_limit(task: envs.Task) -> None:
    """Makes sure that episodes end.

    Raises:
        UsageError: when the task has no time limit.
    """
    if task.decisions is None:
        raise UsageError(
            f"episodes of {task.name!r} have no time limit and might never end; register it with max_episode_steps, "
            "or wrap envs.make(..., max_episode_steps=...) in a program of your own"
        )


def check_planner(name: str | None) -> None:
    """Makes sure that there is such a planner.

    Raises:
        UsageError: when there isn't; it names the nearest.
    """
    known = [*planners.names(), POLICY, RANDOM]
    if name is not None and name not in known:
        raise UsageError(f"unknown planner {name!r}; {nearest(name, known)}")
