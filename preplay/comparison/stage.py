"""Who can play the cells of a comparison."""

import gymnasium

import envs
from agent import ConfigError
from planners import PlannerError
from preplay.actors import POLICY, RANDOM, Cast, cast
from preplay.comparison.cells import Cell
from preplay.errors import UsageError
from preplay.simulated import LEARNED, SimulatorActor


def casts(task: str, cells: list[Cell], floor: Cast, known: set[Cell]) -> tuple[dict[Cell, Cast], dict[str, str]]:
    """Who plays each cell, and, by name, why those cells that can't be can't.

    A combination that isn't possible (a planner that needs gradients, and a simulator that has none) is left out, as
    long as another is left.

    Args:
        task: its name.
        cells: controls among them.
        floor: who plays at random; the others play the same task, with the same agent.
        known: cells that have been played before, and needn't be tried.

    Raises:
        UsageError: when no planner is left of those that were asked for.
    """
    playing: dict[Cell, Cast] = {}
    left_out: dict[str, str] = {}
    tried: set[tuple[str, str | None]] = set()
    env = None if known.issuperset(cells) else floor.env()
    try:
        for cell in cells:
            if cell.planner == POLICY and floor.checkpoint is None:
                left_out[cell.name] = "there is no trained agent for the task"
            else:
                try:
                    playing[cell] = cell_cast(task, cell, floor)
                    if env is not None and cell not in known and cell.planner != RANDOM:
                        _try(playing[cell], env, act=(cell.planner, cell.model) not in tried)
                        tried.add((cell.planner, cell.model))
                except (ConfigError, PlannerError, UsageError, envs.TaskError) as error:
                    if cell.control:
                        raise
                    playing.pop(cell, None)
                    left_out[cell.name] = str(error)
    finally:
        if env is not None:
            env.close()
    if any(not cell.control for cell in cells) and all(cell.control for cell in playing):
        name, reason = next((cell.name, left_out[cell.name]) for cell in cells if not cell.control)
        raise UsageError(f"{name!r} can't be: {reason}")
    return playing, left_out


def cell_cast(task: str, cell: Cell, floor: Cast) -> Cast:
    """Who plays a cell; see `casts`.

    Raises:
        UsageError: when the planner can't search in the model.
    """
    if cell.planner == RANDOM:
        return floor
    model = LEARNED if cell.model is None else cell.model
    options = cell.planning()
    return cast(task, cell.planner, floor.checkpoint, floor.device, model, floor.action_repeat, **options)


def _try(who: Cast, env: gymnasium.Env, act: bool) -> None:
    """Sets a cell up, and lets it decide once: some of what doesn't fit only shows then."""
    actor = who.actor(env)
    if act:
        observation, _ = env.reset(seed=0)
        actor.act(observation)
    if isinstance(actor, SimulatorActor):
        actor.simulator.close()
