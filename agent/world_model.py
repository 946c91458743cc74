"""The latent world model: what the agent imagines with.

After Hansen, Su and Wang, TD-MPC2: Scalable, Robust World Models for Continuous Control (arXiv 2310.16828).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agent.config import ModelConfig, PlanningConfig
from agent.errors import ConfigError
from agent.networks import EnsembleMLP, ObservationNorm, SimplicialNorm, mlp
from agent.two_hot import TwoHot
from planners import Score


@dataclass(frozen=True)
class Imagination:
    """What the model expects of action sequences.

    Attributes:
        latents: (B, N, H+1, L) the states passed through, the first one included.
        rewards: (B, N, H) expected rewards.
        continues: (B, N, H) probability that the episode goes on after each decision.
    """

    latents: Float[Tensor, "B N H1 L"]
    rewards: Float[Tensor, "B N H"]
    continues: Float[Tensor, "B N H"]


class WorldModel(nn.Module):
    """Encoder, latent dynamics, reward, continuation, value ensemble and policy prior.

    Args:
        config: sizes.
        observation_dim: elements of an observation.
        action_dim: elements of an action.
        discount: per decision, in (0, 1).
        can_terminate: whether episodes can end by termination; without it the continuation is 1 and costs nothing.
        log_std: range of the policy's log standard deviation.
        angles: elements of the observation that wind up by a full turn of a joint; see `observe`.

    Attributes:
        real: (A,) 1 for elements of an action, 0 for padding, where models are stacked (see `agent.many`); None where
            all are elements.

    Raises:
        ConfigError: for an angle that is no element of the observation.
    """

    real: Tensor | None
    _HIDDEN = 6  # modules of `dynamics` before its output layer

    def __init__(
        self,
        config: ModelConfig,
        observation_dim: int,
        action_dim: int,
        discount: float,
        can_terminate: bool = True,
        log_std: tuple[float, float] = (-10.0, 2.0),
        angles: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        if sorted(set(angles) & set(range(observation_dim))) != list(angles):
            raise ConfigError(f"angles are {list(angles)}; expected ascending indices below {observation_dim}")
        self.config, self.discount, self.log_std = config, discount, log_std
        self.observation_dim, self.action_dim = observation_dim, action_dim
        latent, hidden = config.latent_dim, config.hidden_dim
        simplex = SimplicialNorm(config.simplex_dim)
        self.norm = ObservationNorm(observation_dim, config.observation_clip)
        self.encoder = mlp(observation_dim + len(angles), [config.encoder_dim], latent, simplex)
        self.angles = list(angles)
        self._others = [i for i in range(observation_dim) if i not in angles]
        self.dynamics = mlp(latent + action_dim, [hidden, hidden], latent, simplex)
        if config.reward_head == "shared":
            self.reward = nn.Sequential(nn.Linear(hidden, config.bins))
        else:
            self.reward = mlp(latent + action_dim, [hidden, hidden], config.bins)
        self.continuation = mlp(latent, [hidden], 1) if can_terminate else None
        self.value = EnsembleMLP(config.value_heads, latent + action_dim, hidden, config.bins)
        self.policy = mlp(latent, [hidden, hidden], 2 * action_dim)
        self.two_hot = TwoHot(config.bins, config.bin_range)
        self.register_buffer("real", None, persistent=False)
        last = self.reward[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)

    def encode(self, observation: Float[Tensor, "*S O"]) -> Float[Tensor, "*S L"]:
        """Observations (..., O) to latents (..., L)."""
        return self.encoder(self.observe(observation))

    def observe(self, observation: Float[Tensor, "*S O"]) -> Float[Tensor, "*S I"]:
        """What the encoder sees: normalised observations, with a sine and a cosine in place of angles that wind up.

        The running spread of such an angle grows with every turn, until normalising it leaves nothing of where in its
        turn the joint is; and what was learned about one turn would say nothing about the next.
        """
        normalised = self.norm(observation)
        if not self.angles:
            return normalised
        angles = observation[..., self.angles]
        return torch.cat([normalised[..., self._others], angles.sin(), angles.cos()], dim=-1)

    def next_latent(self, latent: Float[Tensor, "*S L"], action: Float[Tensor, "*S A"]) -> Float[Tensor, "*S L"]:
        """The latent expected one decision later."""
        return self.dynamics(torch.cat([latent, action], dim=-1))

    def step(
        self, latent: Float[Tensor, "*S L"], action: Float[Tensor, "*S A"]
    ) -> tuple[Float[Tensor, "*S L"], Float[Tensor, "*S K"]]:
        """The latent expected one decision later, and logits of the classes of the reward on the way."""
        x = torch.cat([latent, action], dim=-1)
        if self.config.reward_head == "own":
            return self.dynamics(x), self.reward(x)
        hidden = self.dynamics[: self._HIDDEN](x)
        return self.dynamics[self._HIDDEN :](hidden), self.reward(hidden)

    def continue_logit(self, latent: Float[Tensor, "*S L"]) -> Float[Tensor, "*S"]:
        """Logit of the probability that the episode goes on from the state just reached."""
        assert self.continuation is not None
        return self.continuation(latent).squeeze(-1)

    def value_logits(
        self, latent: Float[Tensor, "*S L"], action: Float[Tensor, "*S A"], frozen: bool = False
    ) -> Float[Tensor, "E *S K"]:
        """Logits of the value classes of every ensemble member."""
        x = torch.cat([latent, action], dim=-1)
        return self.value(x.flatten(0, -2), frozen).unflatten(1, x.shape[:-1])

    def act(
        self, latent: Float[Tensor, "*S L"], noise: Float[Tensor, "*S A"] | None = None
    ) -> tuple[Float[Tensor, "*S A"], Float[Tensor, "*S"]]:
        """The policy prior: a normal squashed by tanh.

        Args:
            latent: (..., L).
            noise: (..., A) standard normal deviates; None gives the most likely action.

        Returns:
            action (..., A) in [-1, 1], and log-likelihood (...).
        """
        mean, log_std = self.policy(latent).chunk(2, dim=-1)
        low, high = self.log_std
        log_std = low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)
        if noise is None:
            noise = torch.zeros_like(mean)
        raw = mean + log_std.exp() * noise
        action = torch.tanh(raw)
        # log(1 - tanh(x)^2), in the form that does not lose its digits for large |x|.
        squash = 2 * (0.6931471805599453 - raw - nn.functional.softplus(-2 * raw))
        log_likelihood = -0.5 * noise**2 - log_std - 0.9189385332046727 - squash
        if self.real is not None:
            log_likelihood = log_likelihood * self.real
        return action, log_likelihood.sum(dim=-1)

    def imagine(self, latent: Float[Tensor, "B L"], actions: Float[Tensor, "B N H A"]) -> Imagination:
        """Rolls action sequences out from the latent of each environment."""
        n, horizon = actions.shape[1:3]
        z = latent.unsqueeze(1).expand(-1, n, -1)
        latents, logits = [z], []
        for t in range(horizon):
            z, reward = self.step(z, actions[:, :, t])
            latents.append(z)
            logits.append(reward)
        states = torch.stack(latents, dim=2)
        rewards = self.two_hot.decode(torch.stack(logits, dim=2))
        if self.continuation is None:
            continues = torch.ones_like(rewards)
        else:
            continues = torch.sigmoid(self.continue_logit(states[:, :, 1:]))
        return Imagination(states, rewards, continues)

    def score(self, latent: Float[Tensor, "B L"], planning: PlanningConfig) -> Score:
        """The planner's score from these latents: discounted rewards, then the value of the state they lead to.

        Each term counts with the probability that the episode has lasted that long. With the bootstrap `mean`, it is
        the mean of the returns predicted with the value after 1, 2, ... H decisions, so that no single depth's errors
        decide (EfficientTDMPC, arXiv 2605.16692); with `own`, after 0, 1, ... H decisions.

        Args:
            latent: (B, L).
            planning: its `bootstrap` and `pessimism`.
        """
        bootstrap = planning.bootstrap

        def predicted_return(actions: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N"]:
            imagined = self.imagine(latent, actions)
            horizon = actions.shape[2]
            first = {"last": horizon, "mean": 1, "own": 0}[bootstrap]
            # Of states that don't lie side by side torch makes a product each, with a copy of the weights.
            states = imagined.latents[:, :, first:].contiguous()
            if bootstrap == "own":
                last, _ = self.act(states[:, :, -1:].contiguous())
                following = torch.cat([actions, last], dim=2)
            else:
                following, _ = self.act(states)
            values = self.action_value(states, following, pessimism=planning.pessimism)
            earned = torch.zeros_like(values[:, :, 0])
            alive = torch.ones_like(earned)
            total = earned if first else values[:, :, 0]
            for t in range(horizon):
                earned = earned + alive * imagined.rewards[:, :, t]
                alive = alive * (self.discount * imagined.continues[:, :, t])
                if t + 1 >= first:
                    total = total + earned + alive * values[:, :, t + 1 - first]
            return total / values.shape[2]

        return predicted_return

    def state_value(self, latent: Float[Tensor, "*S L"]) -> Float[Tensor, "*S"]:
        """The ensemble's mean for the policy prior's most likely action."""
        action, _ = self.act(latent)
        return self.action_value(latent, action)

    def action_value(
        self,
        latent: Float[Tensor, "*S L"],
        action: Float[Tensor, "*S A"],
        frozen: bool = False,
        pessimism: float = 0.0,
    ) -> Float[Tensor, "*S"]:
        """What the ensemble says of actions (..., A) in latents (..., L), in units of return.

        `frozen` passes gradients to both, but not to the ensemble. `pessimism` is where the value lies between the
        members' mean, 0, and the smallest of theirs, 1.
        """
        members = self.two_hot.decode(self.value_logits(latent, action, frozen))
        mean = members.mean(dim=0)
        return torch.lerp(mean, members.amin(dim=0), pessimism) if pessimism else mean

    def distance(self, action: Float[Tensor, "*S A"], other: Float[Tensor, "*S A"]) -> Float[Tensor, "*S"]:
        """Mean over an action's elements of the squared difference of two actions; padding doesn't count."""
        squares = (action - other) ** 2
        return squares.mean(dim=-1) if self.real is None else (squares * self.real).sum(dim=-1) / self.real.sum()

    def proposal_noise(
        self, count: int, horizon: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "H P A"]:
        """Standard normal deviates for `follow_policy`; zeros for the first sequence."""
        noise = torch.randn(horizon, count, self.action_dim, generator=generator, device=self.norm.mean.device)
        noise[:, 0] = 0
        return noise

    def follow_policy(self, latent: Float[Tensor, "B L"], noise: Float[Tensor, "H P A"]) -> Float[Tensor, "B P H A"]:
        """Action sequences that the policy prior would choose in imagination, given its standard normal deviates."""
        z = latent.unsqueeze(1).expand(-1, noise.shape[1], -1).contiguous()
        actions = []
        for t in range(len(noise)):
            action, _ = self.act(z, noise[t].expand(latent.shape[0], -1, -1))
            actions.append(action)
            if t + 1 < len(noise):
                z = self.next_latent(z, action)
        return torch.stack(actions, dim=2)
