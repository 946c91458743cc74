"""What of a training run is saved, and how it is restored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent import resume
from agent.agent import Agent
from agent.errors import CheckpointError, ConfigError
from agent.experience import Priorities
from agent.exploration import CorrelatedNoise
from agent.learner import Learner
from agent.progress import Counts, Progress
from agent.resume import Moment, RunState
from agent.running import from_arrays, to_arrays


def hand_over(learner: Learner, agent: Agent) -> None:
    """Gives an agent what a learner has learned, where that has a model of its own."""
    if learner.model is not agent.model:
        agent.model.load_state_dict(learner.model.state_dict())


class State:
    """Everything that the rest of a run depends on, beside its experience, its log and its environment.

    Args:
        agent: that acts. Of its model nothing is saved: before it acts again it is given the learner's.
        learner: that learns.
        progress: of the run.
        counts: of the run.
        rngs: NumPy's generators, by name.
        noise: that it explores with.
        priorities: of its decisions; None where all are alike.
    """

    def __init__(
        self,
        agent: Agent,
        learner: Learner,
        progress: Progress,
        counts: Counts,
        rngs: dict[str, np.random.Generator],
        noise: CorrelatedNoise,
        priorities: Priorities | None,
    ) -> None:
        self._agent, self._learner, self._progress, self._counts, self._rngs = agent, learner, progress, counts, rngs
        self._noise, self._priorities = noise, priorities

    def moment(self, log: int, experience: dict[str, Any], seconds: float, saving_seconds: float) -> Moment:
        """Where the run is; the arguments are `Moment`'s."""
        running = self._agent.running
        return Moment(
            step=self._progress.step,
            counts=replace(self._counts),
            last_return=self._progress.last_return,
            evaluation=self._progress.evaluation,
            rngs={name: dict(rng.bit_generator.state) for name, rng in self._rngs.items()},
            plan_elites=None if running is None else self._plan()["plan.2"].shape[1],
            plan_age=0 if running is None else running.age,
            priorities=0 if self._priorities is None else len(self._priorities),
            log=log,
            experience=experience,
            seconds=seconds,
            saving_seconds=saving_seconds,
            finished=False,
            device=self._agent.device.type,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that go with the moment."""
        known = {} if self._priorities is None else _as_tensors(self._priorities)
        return self._always() | self._plan() | known

    def restore(self, folder: Path, state: RunState) -> None:
        """Brings a run that was just made to where it was.

        Raises:
            CheckpointError: when what was saved is damaged.
            ConfigError: when it was saved on another device.
        """
        moment, agent = state.moment, self._agent
        if moment.device != agent.device.type:
            raise ConfigError(f"the run was trained on {moment.device}; it can't go on on {agent.device.type}")
        vars(self._counts).update(vars(moment.counts))
        self._progress.step = moment.step
        self._progress.last_return, self._progress.evaluation = moment.last_return, moment.evaluation
        try:
            for name, rng in self._rngs.items():
                rng.bit_generator.state = moment.rngs[name]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise CheckpointError(f"the state of the run in {str(folder)!r} is damaged: see its rngs") from None
        elites, shape = moment.plan_elites, (agent.config.planning.horizon, agent.model.action_dim)
        shapes = [] if elites is None else [(1, *shape), (1, *shape), (1, elites, *shape)]
        plan = {f"plan.{i}": torch.empty(shape, device="meta") for i, shape in enumerate(shapes)}
        known = {}
        if self._priorities is not None:
            known = _as_tensors(self._priorities) | {
                "priorities.values": torch.empty(moment.priorities, dtype=torch.float64, device="meta")
            }
        tensors = resume.read_state_tensors(folder, state, self._always() | plan | known)

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}

        self._learner.model.load_state_dict(under("model."))
        self._learner.restore(under("learner."))
        hand_over(self._learner, agent)
        agent.generator.set_state(tensors["generator"])
        self._noise.state = tensors["noise"].numpy().copy()
        if self._priorities is not None:
            try:
                self._priorities.restore({name: x.numpy() for name, x in under("priorities.").items()})
            except ValueError:
                raise CheckpointError(
                    f"the state of the run in {str(folder)!r} is damaged: see its priorities"
                ) from None
        if plan:
            arrays = (*(tensors[name].numpy() for name in plan), np.full(1, moment.plan_age))
            agent.running = from_arrays(arrays, None, agent.device)

    def _always(self) -> dict[str, Tensor]:
        """What the state holds whatever the moment."""
        tensors = {f"model.{name}": x for name, x in self._learner.model.state_dict().items()}
        tensors |= {f"learner.{name}": x for name, x in self._learner.state(self._counts.updates > 0).items()}
        noise = torch.tensor(self._noise.state, dtype=torch.float64)
        return tensors | {"generator": self._agent.generator.get_state(), "noise": noise}

    def _plan(self) -> dict[str, Tensor]:
        """The running plan, where there is one."""
        if self._agent.running is None:
            return {}
        actions, std, elites, _ = to_arrays(self._agent.running)
        return {f"plan.{i}": torch.from_numpy(x) for i, x in enumerate((actions, std, elites))}


def _as_tensors(priorities: Priorities) -> dict[str, Tensor]:
    return {f"priorities.{name}": torch.from_numpy(x) for name, x in priorities.state().items()}
