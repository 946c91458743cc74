"""Heavy computations in code that torch's compiler makes for them."""

import time
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent.config import PlanningConfig
from agent.engine import Engine
from agent.errors import ConfigError
from agent.experience import Batch
from agent.learner import Learned, Learner
from agent.losses import policy_loss, world_loss
from agent.world_model import WorldModel
from planners import Score


class CompiledEngine(Engine):
    """Does them on the spot, as `Engine` does and to rounding with the same numbers, in less time.

    Between two matrix products many small operations each read and write all of the memory that they work on. Compiled,
    they are one loop. The compiler works at the first call with each shape, for a minute or two in all, and keeps what
    it made in a cache on disk. Only what is called all the time is compiled: updates, and plans of one environment
    with as many candidates as the planner scores at once. Each shape has code of its own, whichever comes first, so a
    run that goes on computes what it would have.

    Args:
        planning: how the agent plans.

    Raises:
        ConfigError: where torch can't compile, mostly for want of a C++ compiler.
    """

    def __init__(self, planning: PlanningConfig) -> None:
        self._candidates = planning.candidates
        # What the compiler has to say of itself.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\._inductor")
        try:
            # Of a size that is hardly in the cache: what is there would say nothing of what isn't.
            _compile(_probe)(torch.zeros(1 + time.time_ns() % 1_000_000))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise ConfigError(
                "torch can't compile here; install a C++ compiler, such as g++, or leave out --compile "
                f"({type(error).__name__}: {reason})"
            ) from error
        self._follow, self._predict = _compile(_follow), _compile(_predict)
        self._world_loss, self._policy_loss = _compile(world_loss), _compile(policy_loss)

    def propose(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "H P A"] | None
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B P H A"] | None]:
        """See `Engine.propose`."""
        if noise is None or len(observation) > 1:
            return super().propose(model, observation, noise)
        latent = model.encode(observation)
        return latent, self._follow(model, latent, noise)

    def score(self, model: WorldModel, latent: Float[Tensor, "B L"], planning: PlanningConfig) -> Score:
        """See `WorldModel.score`."""
        score = model.score(latent, planning)

        def predicted_return(actions: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N"]:
            if len(actions) > 1 or actions.shape[1] not in self._candidates or actions.requires_grad:
                return score(actions)
            found: Tensor = self._predict(model, latent, planning, actions)
            return found

        return predicted_return

    def update(self, learner: Learner, batch: Batch) -> Learned:
        """See `Learner.update`."""
        return learner.update(batch, self._world_loss, self._policy_loss)


def _compile(function: Any) -> Any:
    # All of it is called as one piece of C++: what calls one operation after another from Python keeps the interpreter
    # for itself, and a second thread, which learns or acts meanwhile, waits.
    return torch.compile(function, dynamic=False, options={"cpp_wrapper": True})


def _probe(x: Tensor) -> Tensor:
    return x + 1


def _follow(model: WorldModel, latent: Tensor, noise: Tensor) -> Tensor:
    return model.follow_policy(latent, noise)


def _predict(model: WorldModel, latent: Tensor, planning: PlanningConfig, actions: Tensor) -> Tensor:
    return model.score(latent, planning)(actions)
