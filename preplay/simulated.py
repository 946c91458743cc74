"""Planning in the true dynamics."""

from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike

import envs
from agent import Agent, PlanningConfig
from agent.running import Running, decide
from planners import Plan

LEARNED, SIMULATOR, SIMULATOR_VALUE = MODELS = "learned", "simulator", "simulator+value"
# For a search that sees nothing beyond its horizon: iCEM's defaults and the horizon of its paper. A true model is not
# overfitted, so the best candidate is executed.
LONG_SIGHTED = PlanningConfig(
    planner="icem", horizon=30, samples=40, iterations=3, elites=10, proposals=0, execute="best"
)


class SimulatorActor:
    """Plans in MuJoCo itself, from the state that its environment is in.

    It sees what no robot sees, the whole state and the true dynamics and reward, and so tells how much of an agent's
    return is limited by its model and how much by its search.

    Args:
        env: where it acts; its state is looked at before every decision, and left alone.
        simulator: of the same task.
        planning: how it plans.
        agent: whose value function counts where the horizon ends, and whose policy prior proposes candidates. None:
            the horizon is all that counts.

    Attributes:
        planning: how it plans.
        last_plan: the plan that the last action came from; None where it needed no new one.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        simulator: envs.Simulator,
        planning: PlanningConfig,
        agent: Agent | None = None,
    ) -> None:
        self.env, self.simulator, self.planning, self.agent = env, simulator, planning, agent
        planner = planning.make(simulator.action_dim)
        assert planner is not None
        self.planner = planner
        if agent is not None:
            agent.use_planner(planning)
        self.seed(0)
        self.reset()

    @property
    def budget(self) -> float | None:
        """Seconds that a decision may take; None for as long as it takes."""
        return None if self.planning.budget_ms is None else self.planning.budget_ms / 1000

    def seed(self, seed: int) -> None:
        """Fixes the candidates to come."""
        self.generator = torch.Generator().manual_seed(seed)
        if self.agent is not None:
            self.agent.seed(seed)

    def reset(self) -> None:
        """An episode begins."""
        self._running: Running | None = None
        self.last_plan: Plan | None = None

    def act(self, observation: ArrayLike) -> Float[np.ndarray, " A"]:
        """The action (A,) for the state that the environment is in now; the observation is for the prior alone."""

        def search(warm_start: Plan | None, deadline: float | None) -> Plan:
            state = self.simulator.snapshot(self.env)
            agent = self.agent
            if agent is None:
                score, proposals = self.simulator.score(state), None
            else:
                score = self.simulator.score(state, agent.model.discount, agent.value)
                proposals = agent.propose(observation)
            return self.planner.plan(
                score, warm_start=warm_start, proposals=proposals, deadline=deadline, generator=self.generator
            )

        decision = decide(self.planning, self._running, 1, search)
        self.last_plan, self._running = decision.plan, decision.running
        return decision.action[0].numpy()
