"""An engine that asks another process, which computes for many."""

from collections.abc import Callable
from multiprocessing.synchronize import Semaphore

import torch
from jaxtyping import Float
from torch import Tensor

from agent.config import PlanningConfig, TrainConfig
from agent.engine import Engine, proposal_noise
from agent.errors import DivergedError
from agent.experience import Batch
from agent.learner import DIVERGED, Learned, Learner
from agent.many.desk import METRICS, Ask, Desk, Said, deviates
from agent.many.layout import Layout
from agent.many.networks import Shape, fixed, ordered, parameters
from agent.many.waiting import wait_for
from agent.world_model import WorldModel
from planners import Plan, Planner, Score


class Seat(Engine):
    """Where one agent's heavy computations are done: in another process, together with those of others.

    What is learned lies there. Here the model and its learner are as they were put or got last, so whoever reads them
    calls `settle` before.

    Args:
        open: asks for a desk, and the number of the place at it, for an agent of a shape.
        config: of all agents.
        asked: to ring with.
        answered: to be rung with.
        spin: seconds to wait for an answer without going to sleep, where there are cores to spare.
    """

    def __init__(
        self,
        open: Callable[[Shape], tuple[Desk, int]],
        config: TrainConfig,
        asked: Semaphore,
        answered: Semaphore,
        spin: float = 0.0,
    ) -> None:
        self._open, self._config, self._asked, self._answered, self._spin = open, config, asked, answered, spin
        self._desk: Desk | None = None
        self._there: WorldModel | None = None
        self._learner: Learner | None = None
        self._versions: list[int] = []
        self._stale = False

    def propose(
        self, model: WorldModel, observation: Float[Tensor, "1 O"], noise: Float[Tensor, "H P A"] | None
    ) -> tuple[Float[Tensor, "1 L"], Float[Tensor, "1 P H A"] | None]:
        """See `Engine.propose`."""
        self._put(model)
        if noise is not None and noise.shape[:2] != self._row["noise"].shape[:2]:
            self.settle()
            return super().propose(model, observation, noise)
        self._write_beginning(model, observation, noise)
        self._ask(Ask.PROPOSE)
        latent = self._row["latent"].clone()
        return latent, None if noise is None else self._row["proposals"][..., : model.action_dim].clone()

    def score(self, model: WorldModel, latent: Float[Tensor, "1 L"], planning: PlanningConfig) -> Score:
        """See `WorldModel.score`."""
        theirs = self._config.planning
        alike = all(getattr(planning, x) == getattr(theirs, x) for x in ("horizon", "bootstrap", "pessimism"))

        def predicted_return(actions: Float[Tensor, "1 N H A"]) -> Float[Tensor, "1 N"]:
            if actions.requires_grad or not alike:
                # A planner that climbs the score's gradient, or another score than that of the others.
                self.settle()
                return model.score(latent.clone(), planning)(actions)
            self._put(model)
            count, places = actions.shape[1], self._candidates
            found = []
            for part in actions.split(places[-1], dim=1):
                size = next(i for i, place in enumerate(places) if place >= part.shape[1])
                self._write(f"start.{size}", latent)
                self._write(f"candidates.{size}", part)
                self._ask(Ask.SCORE, size)
                found.append(self._row[f"values.{size}"][:, : part.shape[1]].clone())
            return torch.cat(found, dim=1) if count > places[-1] else found[0]

        return predicted_return

    def plan(
        self,
        model: WorldModel,
        planner: Planner,
        planning: PlanningConfig,
        observation: Float[Tensor, "1 O"],
        generator: torch.Generator,
        warm_start: Plan | Tensor | None = None,
        deadline: float | None = None,
    ) -> Plan:
        """See `Engine.plan`: as a whole, or in steps where that can't be."""
        self._put(model)
        if planning != self._config.planning or deadline is not None or not self._plans:
            return super().plan(model, planner, planning, observation, generator, warm_start, deadline)
        self._write_beginning(model, observation, proposal_noise(model, planning, generator))
        for drawn in self._row["deviates"]:  # as the planner would
            size = *drawn.shape[:-1], model.action_dim
            drawn[..., : model.action_dim] = torch.randn(size, generator=generator)
        start = warm_start.actions if isinstance(warm_start, Plan) else warm_start
        self._row["warm_start"].zero_() if start is None else self._write("warm_start", start[0])
        self._ask(Ask.PLAN)
        actions, std = (self._row[name][None, :, : model.action_dim].clone() for name in ("plan", "std"))
        value, stakes = (self._row[name].clone().view(1) for name in ("value", "stakes"))
        valid = self._row["valid"].view(1) > 0
        evaluations, iterations = (int(count) for count in self._row["counts"])
        return Plan(actions, value, std, evaluations, iterations, valid, stakes)

    def update(self, learner: Learner, batch: Batch) -> Learned:
        """See `Learner.update`."""
        self._put(learner.model, learner)
        self._write_norm(learner.model)
        lesson, noise = learner.draw(batch)
        self._write("observations", ordered(learner.model, lesson.observations))
        for name in ("actions", "rewards", "terminated", "mask"):
            self._write(name, getattr(lesson, name))
        self._write("target_noise", noise.target)
        self._write("policy_noise", noise.policy)
        if noise.members is not None:
            self._write("members", noise.members)
        self._ask(Ask.UPDATE)
        self._stale = True
        values = dict(zip(METRICS, self._row["metrics"].clone().unbind(), strict=True))
        if not learner.config.contrast_weight:
            del values["contrast_loss"]
        if learner.model.continuation is None:
            del values["continue_loss"]
        if not learner.config.imitation_weight or learner.config.imitation_temperature is None:
            del values["imitated"]
        return Learned(values, self._row["errors"].clone())

    def act(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "B A"] | None
    ) -> Float[Tensor, "B A"]:
        """See `Engine.act`."""
        self.settle()
        return super().act(model, observation, noise)

    def settle(self) -> None:
        """See `Engine.settle`."""
        if self._stale and self._learner is not None:
            self._ask(Ask.GET)
            self._layout.read(self._row["row"], self._learner)
            self._stale, self._versions = False, _versions(self._learner.model)

    def _put(self, model: WorldModel, learner: Learner | None = None) -> None:
        """Makes sure that what is there is this model and, for an update, all of its learner."""
        known = self._there is model and (self._stale or self._versions == _versions(model))
        if known and (learner is None or self._learner is learner):
            return
        self.settle()
        self._sit(model)
        row = self._row
        if learner is None:
            self._layout.write_model(model, row["row"])
        else:
            self._layout.write(learner, row["row"])
        for name, x in fixed(model).items():
            self._write(name, x)
        self._ask(Ask.PUT)
        self._there, self._learner, self._versions = model, learner, _versions(model)

    def _sit(self, model: WorldModel) -> None:
        """Finds a place, if it has none yet."""
        if self._desk is None:
            self._desk, self._number = self._open(Shape.of(model, self._config.learner.slow_encoder))
            self._layout = Layout(self._desk.sizes.shape)
            self._plans = deviates(self._desk.sizes) is not None
            self._candidates = self._desk.sizes.candidates
            self._row = {name: x[self._number] for name, x in self._desk.arrays.items()}

    def _write_beginning(self, model: WorldModel, observation: Tensor, noise: Tensor | None) -> None:
        """What proposals and plans begin with."""
        self._write_norm(model)
        self._write("observation", ordered(model, observation))
        if noise is not None:
            self._write("noise", noise)

    def _write_norm(self, model: WorldModel) -> None:
        self._write("mean", ordered(model, model.norm.mean))
        self._write("var", ordered(model, model.norm.var))

    def _write(self, name: str, x: Tensor) -> None:
        """Into a place that may be longer in any dimension."""
        place = self._row[name]
        place[tuple(slice(size) for size in x.shape)] = x

    def _ask(self, what: Ask, size: int = 0) -> None:
        assert self._desk is not None
        desk, number = self._desk, self._number
        desk.asks[number, 1] = size
        desk.asks[number, 0] = what
        self._asked.release()
        wait_for(self._answered, self._spin)
        said = Said(int(desk.said[number]))
        if said == Said.DIVERGED:
            raise DivergedError(DIVERGED)
        if said == Said.FAILED:
            raise RuntimeError("what was to be computed for many agents could not be; the first error says why")


def _versions(model: WorldModel) -> list[int]:
    return [x._version for x in parameters(model).values()]
