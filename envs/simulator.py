"""The true simulator as a model that a planner can score candidates with."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import gymnasium
import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.errors import TaskError
from envs.make import make
from envs.physics import physics
from envs.simulation.copies import Copies
from envs.simulation.model import Baseline
from envs.simulation.outcome import Outcome
from envs.simulation.rolled import Rolled, rolled
from envs.simulation.state import SimulatorState
from envs.tasks import GYMNASIUM, Task, find

__all__ = ["Imagined", "Simulator", "SimulatorState"]

# Time limits play no part in what is imagined.
_ENDLESS = 10**9


@dataclass(frozen=True, eq=False)
class Imagined:
    """What comes of N candidates of H decisions from each of B states, on the CPU.

    Attributes:
        rewards: (B, N, H) per decision, float64; zeros once the episode is over.
        continues: (B, N, H) 1 while the episode goes on after a decision; 0 once it terminated, or diverged.
        diverged: (B, N) whether the physics diverged before the episode terminated.
    """

    rewards: Float[Tensor, "B N H"]
    continues: Float[Tensor, "B N H"]
    diverged: Bool[Tensor, "B N"]
    _outcome: Outcome = field(repr=False)


class Simulator:
    """MuJoCo itself as a planner's model: the true dynamics and the true reward of a task.

    with envs.Simulator("walker-walk") as simulator:
        plan = planner.plan(simulator.score(simulator.snapshot(env)))

    What it predicts is what executing the actions in the environment brings: dynamics are bit-exact, and rewards agree
    to rounding. Candidates are rolled out by MuJoCo's own threads, for every task of the DeepMind Control suite and for
    Gymnasium's v5 HalfCheetah, Hopper, InvertedPendulum, Pusher, Swimmer and Walker2d. Most rewards are
    computed for all steps at once; the suite's dog tasks run dm_control's own code on every step. All other MuJoCo
    environments are stepped as copies, one candidate after the other, which is exact as well but far slower:
    `exact_copies` says so. A copy is MuJoCo's data, what was changed in its model, and the numbers, texts, arrays and
    random generators that the environment and its wrappers have as attributes; what an environment keeps elsewhere
    stays as it is. Forces that a user applies from outside (`xfrc_applied` and the like) are part of copies only.

    Args:
        task: a suite task (`walker-walk`), a Gymnasium id (`Hopper-v5`), or `module:Id`.
        action_repeat: environment steps of one decision; by default 2 for DMControl and 1 for Gymnasium.
        threads: rollouts that run at once; results don't depend on it. Copies are stepped on one.

    Attributes:
        task: what is being played.
        action_dim: elements of an action.
        observation_dim: elements of a flat observation.
        exact_copies: whether candidates are scored in the slow way, by stepping copies of the environment.

    Raises:
        TaskError: for a task that does not exist, can't be made, or does not run on MuJoCo.
    """

    def __init__(self, task: str, *, action_repeat: int | None = None, threads: int = 1) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise TaskError(f"threads is {threads!r}; it must be a whole number of 1 or more")
        found = find(task)
        limit = _ENDLESS if found.family == GYMNASIUM else None
        self._env = make(task, action_repeat=action_repeat, max_episode_steps=limit)
        inside = physics(self._env)
        if inside is None:
            self._env.close()
            raise TaskError(f"task {task!r} does not run on MuJoCo; only a MuJoCo simulation can be a planner's model")
        repeat: int = self._env.get_wrapper_attr("task").action_repeat
        self.task: Task = replace(found, action_repeat=repeat)
        self.action_dim = int(np.prod(self._env.action_space.shape or ()))
        self.observation_dim = int(np.prod(self._env.observation_space.shape or ()))
        self._baseline = Baseline(inside[0])
        world = rolled(self._env, self.task, self._baseline, threads)
        self.exact_copies = world is None
        self._world: Rolled | Copies = world if world is not None else Copies(self._env, self._baseline, repeat)
        self._closed = False

    def snapshot(self, env: gymnasium.Env[Any, Any]) -> SimulatorState:
        """The present moment of a live environment, which is not disturbed.

        Args:
            env: an environment of `envs.make` for the same task and action repeat, after its reset.

        Raises:
            TaskError: for an environment of another task.
        """
        try:
            task = env.get_wrapper_attr("task")
        except AttributeError:
            task = None
        inside = physics(env)
        if not isinstance(task, Task) or inside is None:
            raise TaskError(f"{env} was not made by envs.make; a simulator of {self.task.name} can't continue it")
        if (task.family, task.id, task.action_repeat) != (self.task.family, self.task.id, self.task.action_repeat):
            raise TaskError(
                f"the environment is {task.name} with action repeat {task.action_repeat}; this simulator is of "
                f"{self.task.name} with action repeat {self.task.action_repeat}"
            )
        model, data = inside
        changes = self._baseline.changes(model)
        if not self._baseline.alike(changes):
            raise TaskError(
                f"the environment of {task.name} has built another model, with other bodies or joints; "
                "a simulator continues only episodes of the model that its task is made with"
            )
        full = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value))
        mujoco.mj_getState(model, data, full, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        return SimulatorState(
            task=self.task,
            physics=full,
            warmstart=np.array(data.qacc_warmstart),
            changes=changes,
            memory=self._world.memory(env),
            data=copy.copy(data) if self.exact_copies else None,
        )

    def score(
        self,
        state: SimulatorState | Sequence[SimulatorState],
        discount: float = 1.0,
        terminal: Callable[[Float[Tensor, "M O"]], Float[Tensor, " M"]] | None = None,
    ) -> Callable[[Float[Tensor, "B N H A"]], Float[Tensor, "B N"]]:
        """The score that a planner asks for: the true return of candidates.

        Args:
            state: where to begin, one per environment that is planned for.
            discount: what a reward one decision later is worth.
            terminal: the value of flat observations (M, O), float32, for what comes after the horizon; it counts
                `discount ** H`, and nothing where the episode has terminated.

        Returns:
            A function of candidates (B, N, H, A) in [-1, 1]. It returns their returns (B, N) in the candidates' own
            floating-point type, -inf where the physics diverges or an action is NaN.
        """
        states = _listed(state)

        def score(actions: Float[Tensor, "B N H A"]) -> Float[Tensor, "B N"]:
            imagined = self.imagine(states, actions)
            horizon = actions.shape[2]
            weights = discount ** torch.arange(horizon, dtype=torch.float64)
            total = (imagined.rewards * weights).sum(-1)
            if terminal is not None:
                seen = self.observe(imagined).flatten(0, 1).to(actions.device)
                value = terminal(seen).reshape(total.shape).to("cpu", torch.float64)
                total = torch.where(imagined.continues[..., -1] > 0, total + discount**horizon * value, total)
            return total.masked_fill(imagined.diverged, -torch.inf).to(actions.dtype).to(actions.device)

        return score

    def imagine(self, state: SimulatorState | Sequence[SimulatorState], actions: Float[Tensor, "B N H A"]) -> Imagined:
        """What executing candidates brings.

        Args:
            state: where to begin, one per environment that is planned for.
            actions: candidates in [-1, 1]; beyond it they are clipped, as the environment does.

        Raises:
            ValueError: for candidates of a wrong shape.
        """
        if self._closed:
            raise RuntimeError("the simulator is closed")
        states = _listed(state)
        shape = tuple(actions.shape)
        if len(shape) != 4 or shape[0] != len(states) or shape[3] != self.action_dim or 0 in shape:
            raise ValueError(
                f"the candidates have shape {shape}; expected (B, N, H, A) with B = {len(states)} and "
                f"A = {self.action_dim}, none of them 0"
            )
        given = actions.detach().to("cpu", torch.float64).numpy()
        bad = np.isnan(given).any(axis=(2, 3)).reshape(-1)
        outcome = self._world.imagine(states, np.nan_to_num(given, posinf=1.0, neginf=-1.0))
        outcome = replace(
            outcome,
            rewards=np.where(bad[:, None], 0.0, outcome.rewards),
            continues=outcome.continues & ~bad[:, None],
            diverged=outcome.diverged | bad,
        )

        def tensor(x: Any, *shape: int) -> Tensor:
            return torch.from_numpy(x).reshape(shape)

        return Imagined(
            rewards=tensor(outcome.rewards, *shape[:3]),
            continues=tensor(outcome.continues, *shape[:3]).to(torch.float64),
            diverged=tensor(outcome.diverged, *shape[:2]),
            _outcome=outcome,
        )

    def observe(self, imagined: Imagined) -> Float[Tensor, "B N O"]:
        """The observations at the end of the horizon, as the environment gives them: flat, float32.

        They are zeros for candidates whose episode does not get that far.
        """
        if self._closed:
            raise RuntimeError("the simulator is closed")
        seen = imagined._outcome.observe()
        seen[~imagined._outcome.continues[:, -1]] = 0
        return torch.from_numpy(seen).reshape(*imagined.diverged.shape, -1)

    def close(self) -> None:
        """Ends the threads and closes the private environment."""
        if not self._closed:
            self._closed = True
            self._world.close()
            self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listed(state: SimulatorState | Sequence[SimulatorState]) -> list[SimulatorState]:
    return [state] if isinstance(state, SimulatorState) else list(state)
