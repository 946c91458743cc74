"""An engine that asks a meeting."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from agent.engine import Engine
from agent.experience import Batch
from agent.learner import Learned, Learner
from agent.many.meeting import Meeting
from agent.many.requests import Propose, Rate, Update
from agent.world_model import WorldModel
from planners import Score


@dataclass(frozen=True)
class Seat(Engine):
    """Where one agent's heavy computations are done: together with those of the others at a meeting.

    Attributes:
        meeting: of all agents.
        number: of this one.
    """

    meeting: Meeting
    number: int

    def propose(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "H P A"] | None
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B P H A"] | None]:
        """See `Engine.propose`."""
        return self.meeting.ask(self.number, Propose(model, observation, noise))

    def score(self, model: WorldModel, latent: Float[Tensor, "B L"], bootstrap: Literal["last", "mean"]) -> Score:
        """See `WorldModel.score`."""

        def predicted_return(actions: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N"]:
            if actions.requires_grad:
                # A planner that climbs the score's gradient: that can't be shared with others.
                return model.score(latent.clone(), bootstrap)(actions)
            return self.meeting.ask(self.number, Rate(model, latent, actions, bootstrap))

        return predicted_return

    def update(self, learner: Learner, batch: Batch) -> Learned:
        """See `Learner.update`."""
        return self.meeting.ask(self.number, Update(learner, *learner.draw(batch)))
