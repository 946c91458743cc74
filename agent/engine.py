"""Where the heavy computations of an agent and its learner are done."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from agent.experience import Batch
from agent.learner import Learned, Learner
from agent.world_model import WorldModel
from planners import Score


class Engine:
    """Does them on the spot. `agent.many` has one that does those of many agents in one call."""

    def propose(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "H P A"] | None
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B P H A"] | None]:
        """Latents of observations, and what the policy prior would do from there; None without noise for it."""
        latent = model.encode(observation)
        return latent, None if noise is None else model.follow_policy(latent, noise)

    def score(self, model: WorldModel, latent: Float[Tensor, "B L"], bootstrap: Literal["last", "mean"]) -> Score:
        """See `WorldModel.score`."""
        return model.score(latent, bootstrap)

    def update(self, learner: Learner, batch: Batch) -> Learned:
        """See `Learner.update`."""
        return learner.update(batch)
