"""What a training run learns from and how much: batches of its experience, and an update on each."""

import numpy as np
import torch

from agent.agent import AgentInfo
from agent.config import TrainConfig
from agent.engine import Engine
from agent.errors import ConfigError, DivergedError
from agent.experience import Batch, Experience, Priorities
from agent.learner import Learner
from agent.progress import Counts

_MOST_ERROR = 1e9  # that makes a difference to a priority


class Lessons:
    """Makes updates, one at a time.

    Args:
        learner: makes them.
        config: what batches are made of.
        counts: of the run; `updates` is counted here, `given` and the first `due` are settled here.
        rng: which sequences are drawn.
        device: the learner's.
        engine: where updates are computed.

    Attributes:
        priorities: how likely each decision is to be drawn; None where all are alike.
    """

    LOG_EVERY = 250  # updates between logged losses
    MOST_FIRST_UPDATES = 10_000  # on given experience, unless asked for

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        counts: Counts,
        rng: np.random.Generator,
        device: torch.device,
        engine: Engine,
    ) -> None:
        self.learner, self.config, self._counts, self._rng, self._device = learner, config, counts, rng, device
        self._engine = engine
        ways = config.learner
        self.priorities = Priorities(ways.priority_fade, ways.priority_floor) if ways.priority_exponent else None

    def study(self, experience: Experience, info: AgentInfo) -> None:
        """Takes given experience in: what is normal in it, and how often to learn from it before acting.

        Raises:
            ConfigError: when it is of other sizes.
        """
        counts, config, model = self._counts, self.config, self.learner.model
        counts.given = info.training["given"] = experience.total
        sizes = model.observation_dim, model.action_dim
        for episode in experience.episodes:
            found = episode.observation_dim, episode.action_dim
            if found != sizes:
                raise ConfigError(
                    f"experience of {episode.task} has observations and actions of {found[0]} and {found[1]} elements; "
                    f"{info.task} has {sizes[0]} and {sizes[1]}"
                )
            if episode.decisions:
                self.take_in(experience.read(episode).observations[1:])
        first = min(counts.given, self.MOST_FIRST_UPDATES) if config.first_updates is None else config.first_updates
        counts.due = first if counts.given else 0

    def take_in(self, observations: np.ndarray) -> None:
        """Learns what is normal in observations (M, O)."""
        self.learner.model.norm.update(torch.as_tensor(observations, device=self._device))

    def earned(self, experience: Experience, before: int, step: int, action_repeat: int) -> int:
        """Updates that decisions make due. Those of the random decisions are made up for at their end.

        Args:
            experience: which they are in.
            before: environment steps before them.
            step: environment steps after them.
            action_repeat: environment steps of one.
        """
        begins = 0 if self._counts.given else self.config.random_steps
        if step < begins or not len(experience):
            return 0
        steps = step if before < begins else step - before
        return steps // action_repeat * self.config.updates_per_decision

    def update(self, experience: Experience) -> dict[str, int | float] | None:
        """One update, on a batch of what the experience holds.

        Returns:
            What is to be logged, which is something every `LOG_EVERY` updates: their number, losses and diagnostics.

        Raises:
            DivergedError: when training comes to NaN or infinity.
        """
        batch = self._batch(experience)
        learned = self._engine.update(self.learner, batch)
        if self.priorities is not None:
            errors = learned.errors.cpu().numpy().astype(np.float64).clip(1, _MOST_ERROR)
            self.priorities.set(batch.starts, errors**self.config.learner.priority_exponent)
        self._counts.updates += 1
        if self._counts.updates % self.LOG_EVERY:
            return None
        values = {name: float(x) for name, x in learned.metrics.items()}
        if not all(np.isfinite(x) for x in values.values()):
            raise DivergedError(f"the losses are {values}")
        return {"updates": self._counts.updates} | values

    def _batch(self, experience: Experience) -> Batch:
        """Sequences to learn from: of given experience, of the agent's own, or of both."""
        config, given = self.config, self._counts.given
        size, length = config.learner.batch_size, config.learner.horizon
        mine = size
        if given and experience.count(0, given):  # some of it is not evicted yet
            # However little of its own the agent has, no batch holds more sequences of it than there are.
            mine = min(experience.count(given), size - round(size * config.experience_share))

        def draw(count: int, within: tuple[int, int | None]) -> Batch:
            return experience.sample(count, length, self._rng, self._device, within=within, priorities=self.priorities)

        if mine == size:
            return draw(size, (given, None))
        theirs = draw(size - mine, (0, given))
        return theirs.beside(draw(mine, (given, None))) if mine else theirs
