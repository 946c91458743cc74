"""What goes from one decision to the next: the plan that is being carried out."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agent.config import PlanningConfig
from planners import Plan

Search = Callable[[Plan | None, float | None], Plan]
"""Makes a plan from a warm start and a deadline, each of which may be None."""


@dataclass(frozen=True)
class Running:
    """A plan that is being carried out.

    Attributes:
        plan: as seen at the decision to come.
        age: decisions taken from it.
    """

    plan: Plan
    age: int


@dataclass(frozen=True)
class Decision:
    """What is to be done now.

    Attributes:
        action: (B, A).
        std: (B, A) how widely to explore around it.
        plan: the plan that was made for it; None when the running one is good enough.
        running: what the next decision goes on from.
    """

    action: Float[Tensor, "B A"]
    std: Float[Tensor, "B A"]
    plan: Plan | None
    running: Running


def decide(planning: PlanningConfig, running: Running | None, batch: int, search: Search) -> Decision:
    """Takes the next action from the running plan, or from a new one that begins with it.

    Args:
        planning: says how often to plan anew, and how long that may take.
        running: the last decision's; None when episodes begin.
        batch: environments. A running plan for another number of them is forgotten.
        search: makes plans.
    """
    began = time.monotonic()
    if running is not None and len(running.plan.actions) != batch:
        running = None
    if running is not None and running.age < planning.replan_every:
        plan, age, made = running.plan, running.age, None
    else:
        deadline = None if planning.budget_ms is None else began + planning.budget_ms / 1000
        plan = made = search(None if running is None else running.plan, deadline)
        age = 0
    return Decision(plan.actions[:, 0], plan.std[:, 0], made, Running(plan.shift(), age + 1))


def to_arrays(running: Running) -> tuple[np.ndarray, ...]:
    """A running plan as arrays, for callers who keep the state themselves: actions, std, elites and age."""
    plan = running.plan
    elites = plan.actions[:, None][:, :0] if plan.elites is None else plan.elites
    return (*(x.cpu().numpy() for x in (plan.actions, plan.std, elites)), np.full(len(plan.actions), running.age))


def from_arrays(state: tuple[np.ndarray, ...], begins: np.ndarray | None, device: torch.device) -> Running:
    """The running plan in a caller's arrays.

    Args:
        state: of `to_arrays`.
        begins: (B,) True where an episode begins, whose plan is forgotten; all are then planned for anew.
        device: where to.

    Raises:
        ValueError: when `begins` is of another size.
    """
    actions, std, elites = (torch.from_numpy(np.array(x, np.float32)).to(device) for x in state[:3])
    age = int(state[3].max())
    if begins is not None and np.size(begins) != len(actions):
        raise ValueError(f"episode_start has {np.size(begins)} elements; the state is of {len(actions)} environments")
    if begins is not None and np.any(begins):
        fresh = torch.from_numpy(np.asarray(begins, bool).reshape(-1)).to(device)
        actions[fresh], std[fresh], elites[fresh] = 0, 0, 0
        age = 2**31
    value = torch.full_like(actions[:, 0, 0], -torch.inf)
    valid = torch.ones_like(value, dtype=torch.bool)
    remembered = elites if elites.shape[1] else None
    return Running(Plan(actions, value, std, 0, 0, valid, torch.zeros_like(value), remembered), age)
