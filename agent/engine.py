"""Where the heavy computations of an agent and its learner are done."""

import torch
from jaxtyping import Float
from torch import Tensor

from agent.config import PlanningConfig
from agent.experience import Batch
from agent.learner import Learned, Learner
from agent.world_model import WorldModel
from planners import Plan, Planner, Score


class Engine:
    """Does them on the spot. `agent.many` has one that does those of many agents in one call."""

    def propose(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "H P A"] | None
    ) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B P H A"] | None]:
        """Latents of observations, and what the policy prior would do from there; None without noise for it."""
        latent = model.encode(observation)
        return latent, None if noise is None else model.follow_policy(latent, noise)

    def score(self, model: WorldModel, latent: Float[Tensor, "B L"], planning: PlanningConfig) -> Score:
        """See `WorldModel.score`."""
        return model.score(latent, planning)

    def act(
        self, model: WorldModel, observation: Float[Tensor, "B O"], noise: Float[Tensor, "B A"] | None
    ) -> Float[Tensor, "B A"]:
        """Actions of the policy prior, given its standard normal deviates; the most likely ones without."""
        return model.act(model.encode(observation), noise)[0]

    def plan(
        self,
        model: WorldModel,
        planner: Planner,
        planning: PlanningConfig,
        observation: Float[Tensor, "B O"],
        generator: torch.Generator,
        warm_start: Plan | Tensor | None = None,
        deadline: float | None = None,
    ) -> Plan:
        """A search from observations on.

        Args:
            model: to imagine with.
            planner: that `planning` makes.
            planning: how to.
            observation: (B, O).
            generator: of the proposals' and the planner's randomness.
            warm_start: see `Planner.plan`.
            deadline: see `Planner.plan`.

        Returns:
            See `Planner.plan`; on the observations' device.

        Raises:
            planners.PlannerError: when a shape does not fit.
        """
        latent, proposals = self.propose(model, observation, proposal_noise(model, planning, generator))
        return planner.plan(
            self.score(model, latent, planning),
            batch=len(observation),
            warm_start=warm_start,
            proposals=proposals,
            deadline=deadline,
            generator=generator,
            device=observation.device,
        )

    def update(self, learner: Learner, batch: Batch) -> Learned:
        """See `Learner.update`."""
        return learner.update(batch)

    def settle(self) -> None:
        """Brings what `update` has changed to where it can be read: into the learner that was given to it."""


def proposal_noise(
    model: WorldModel, planning: PlanningConfig, generator: torch.Generator
) -> Float[Tensor, "H P A"] | None:
    """What the policy prior's proposals need of randomness; None where there are to be none."""
    if not planning.proposals:
        return None
    return model.proposal_noise(planning.proposals, planning.horizon, generator)
