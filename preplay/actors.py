"""Who plays: a trained agent with a planner, its policy prior alone, or random actions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

import envs
import planners
from agent import MOST_SEEDS, Agent, PlanningConfig, RandomActor, configure_torch, describe
from agent.agent import choose_device
from planners.errors import nearest
from preplay.errors import UsageError
from preplay.shipped import checkpoint_for
from preplay.simulated import LEARNED, LONG_SIGHTED, MODELS, SIMULATOR, SimulatorActor

RANDOM, POLICY = "random", "policy"
OF_THE_LEARNED_MODEL = "bootstrap", "pessimism"  # options that mean nothing to a search in the simulator


@dataclass(frozen=True)
class Cast:
    """What it takes to play a task, by name, so that a worker process can set it up for itself.

    Attributes:
        task: the name.
        planner: a registered planner, `policy` or `random`; None for the one the agent was trained with.
        checkpoint: the agent's folder; None where none is needed, or at hand: random actions, the simulator alone.
        action_repeat: environment steps of a decision.
        planning: planning options that differ from the checkpoint's or, in the simulator alone, from iCEM's.
        device: `auto`, `cpu` or `cuda`.
        model: what is planned in: `learned`, `simulator`, or `simulator+value`, which adds the agent's value of the
            state where the horizon ends.
    """

    task: str
    planner: str | None
    checkpoint: Path | None
    action_repeat: int
    planning: tuple[tuple[str, Any], ...] = ()
    device: str = "auto"
    model: str = LEARNED

    def env(self, **options: Any) -> gymnasium.Env[Any, Any]:
        """The environment, as `envs.make` makes it."""
        return envs.make(self.task, action_repeat=self.action_repeat, **options)

    def actor(self, env: gymnasium.Env[Any, Any]) -> Agent | RandomActor | SimulatorActor:
        """The actor, for an environment of `env()`.

        Raises:
            UsageError: when the checkpoint doesn't fit the environment.
            envs.TaskError: when there is no simulator of the task.
        """
        size = env.action_space.shape[0]  # type: ignore[index]
        changes = dict(self.planning)
        if self.planner == RANDOM:
            # What makes no sense is refused, though it makes no difference.
            choose_device(self.device)
            PlanningConfig().changed(**changes)
            return RandomActor(size)
        if self.planner is not None:
            changes["planner"] = self.planner
        if self.model == SIMULATOR:
            return SimulatorActor(env, self._simulator(), LONG_SIGHTED.changed(**changes))
        assert self.checkpoint is not None
        agent = Agent.load(self.checkpoint, self.device)
        configure_torch(agent.config)
        if agent.observation_space.shape != env.observation_space.shape or agent.action_space != env.action_space:
            raise UsageError(
                f"the checkpoint {str(self.checkpoint)!r} expects observations {agent.observation_space.shape} and "
                f"actions {agent.action_space.shape}; {self.task!r} has {env.observation_space.shape} and "
                f"{env.action_space.shape}"
            )
        agent.use_planner(**changes)
        if self.model != LEARNED and agent.planner is None:
            raise UsageError(
                f"the agent in {str(self.checkpoint)!r} was trained without a planner; name one with --planner"
            )
        return agent if self.model == LEARNED else SimulatorActor(env, self._simulator(), agent.planning, agent)

    def _simulator(self) -> envs.Simulator:
        return envs.Simulator(self.task, action_repeat=self.action_repeat)


def cast(
    task: str,
    planner: str | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    model: str = LEARNED,
    action_repeat: int | None = None,
    **planning: Any,
) -> Cast:
    """Checks names and folders, and settles what the checkpoint says of the rest.

    Args:
        task: as `envs.find` takes it.
        planner: None for the one the agent was trained with.
        checkpoint: None for the agent that ships.
        device: for the agent.
        model: one of `MODELS`. The controls, which search in none, count as `learned`.
        action_repeat: environment steps of a decision; None for what the checkpoint, or else the task, says.
        planning: options to change; those that are None stay as they are.

    Raises:
        envs.TaskError, agent.CheckpointError, UsageError: with a sentence about what is wrong.
    """
    found = envs.find(task)
    check_planner(planner)
    check_model(model, planner)
    for name in OF_THE_LEARNED_MODEL:
        if model != LEARNED and planning.get(name) is not None:
            raise UsageError(f"--{name} is of the search in the learned model; leave it out with --model {model}")
    if planner in (POLICY, RANDOM):
        model = LEARNED
    check_time_limit(found)
    changes = tuple(sorted((k, v) for k, v in planning.items() if v is not None))
    try:
        folder = checkpoint_for(found, checkpoint)
    except UsageError:
        if checkpoint is not None or (planner != RANDOM and model != SIMULATOR):
            raise
        repeat = found.action_repeat if action_repeat is None else action_repeat
        return Cast(found.name, planner, None, repeat, changes, device, model)
    repeat = describe(folder)["action_repeat"] if action_repeat is None else action_repeat
    return Cast(found.name, planner, folder, repeat, changes, device, model)


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


def check_model(name: str, planner: str | None) -> None:
    """Makes sure that there is such a model, and that the planner can search in it.

    Raises:
        UsageError: when there isn't, or it can't.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; {nearest(name, MODELS)}")
    if name != LEARNED and planner in planners.names() and planners.get(str(planner)).differentiates:
        raise UsageError(f"planner {planner!r} needs the score's gradient, and MuJoCo gives none; use --model learned")


def check_planner(name: str | None) -> None:
    """Makes sure that there is such a planner.

    Raises:
        UsageError: when there isn't; it names the nearest.
    """
    known = [*planners.names(), POLICY, RANDOM]
    if name is not None and name not in known:
        raise UsageError(f"unknown planner {name!r}; {nearest(name, known)}")
