"""What agents and learners ask for where many are trained together, and which of it can be answered together."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from agent.engine import Engine
from agent.learner import Learned, Learner
from agent.losses import Lesson, Noise
from agent.many.stacked import alike
from agent.world_model import WorldModel


@dataclass(frozen=True)
class Propose:
    """Latents of observations, and what the policy prior would do from there. See `Engine.propose`."""

    model: WorldModel
    observation: Float[Tensor, "B O"]
    noise: Float[Tensor, "H P A"] | None
    order: ClassVar[int] = 0

    @property
    def group(self) -> Hashable:
        """Equal for requests that can be answered in one call."""
        noise = None if self.noise is None else self.noise.shape[:2]
        return alike(self.model), len(self.observation), noise

    def alone(self) -> tuple[Tensor, Tensor | None]:
        """The answer, without others."""
        with torch.inference_mode():
            return Engine().propose(self.model, self.observation, self.noise)


@dataclass(frozen=True)
class Rate:
    """What candidates would earn. See `WorldModel.score`."""

    model: WorldModel
    latent: Float[Tensor, "B L"]
    actions: Float[Tensor, "B N H A"]
    bootstrap: Literal["last", "mean"]
    order: ClassVar[int] = 1

    @property
    def group(self) -> Hashable:
        """Equal for requests that can be answered in one call."""
        return alike(self.model), self.actions.shape[:3], self.bootstrap

    def alone(self) -> Tensor:
        """The answer, without others."""
        with torch.inference_mode():
            return self.model.score(self.latent, self.bootstrap)(self.actions)


@dataclass(frozen=True)
class Update:
    """A gradient step. See `Learner.update`."""

    learner: Learner
    lesson: Lesson
    noise: Noise
    order: ClassVar[int] = 2

    @property
    def group(self) -> Hashable:
        """Equal for requests that can be answered in one call."""
        several = self.noise.members is not None
        return alike(self.learner.model), self.learner.config, self.lesson.rewards.shape, several

    def alone(self) -> Learned:
        """The answer, without others."""
        with torch.inference_mode(False), torch.enable_grad():
            return self.learner.learn(self.lesson, self.noise)
