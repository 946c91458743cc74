"""Training: collect, learn, evaluate, log, save."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from agent.agent import Agent, AgentInfo, configure_torch
from agent.config import TrainConfig
from agent.errors import ConfigError, DivergedError
from agent.evaluation import Episodes, evaluate
from agent.experience import Experience
from agent.learner import Learner
from agent.logs import Log


@dataclass
class Progress:
    """How far a run is, for whoever shows it.

    Attributes:
        step: environment steps taken, action repeat included.
        steps: environment steps to take.
        phase: `collect`, `learn` or `evaluate`.
        last_return: of the last finished episode; None before the first.
        evaluation: mean return of the last evaluation; None before the first.
        steps_per_second: environment steps, over the last stretch.
        milliseconds_per_plan: median over the last stretch; None while actions are random.
        seconds_left: estimate of the time to the end; None while there is nothing to go by.
    """

    step: int
    steps: int
    phase: str = "collect"
    last_return: float | None = None
    evaluation: float | None = None
    steps_per_second: float = 0.0
    milliseconds_per_plan: float | None = None
    seconds_left: float | None = None


class Trainer:
    """Trains one agent in one environment.

    Args:
        env: where experience is collected; flat Box observations, actions in [-1, 1].
        evaluation_env: a second one of the same kind, for evaluation.
        config: everything that can be set.
        info: what the agent is for; its `action_repeat` converts decisions to environment steps.
        folder: the run folder: `config.json` and weights, `metrics.jsonl`, TensorBoard events.
        on_progress: called every few decisions.
    """

    REPORT_EVERY = 25  # decisions between progress reports
    LOG_EVERY = 250  # updates between logged losses

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        evaluation_env: gymnasium.Env[Any, Any],
        config: TrainConfig,
        info: AgentInfo,
        folder: Path,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.env, self.evaluation_env, self.config, self.info, self.folder = env, evaluation_env, config, info, folder
        self.on_progress = on_progress or (lambda progress: None)
        configure_torch(config)
        observation_dim, action_dim = _sizes(env)
        streams = np.random.SeedSequence(config.seed).spawn(5)
        seeds = [int(s.generate_state(1, np.uint64)[0] >> 1) for s in streams]
        self.agent = Agent(config, observation_dim, action_dim, info, config.device, seed=seeds[0])
        self._episode_seeds = np.random.default_rng(streams[1])
        self._random_actions = np.random.default_rng(streams[2])
        self._sampling = np.random.default_rng(streams[3])
        generator = torch.Generator(self.agent.device).manual_seed(seeds[4])
        self.learner = Learner(self.agent.model, config.learner, generator)
        self.experience = Experience(
            min(config.capacity, -(-config.steps // info.action_repeat)), observation_dim, action_dim
        )
        self.progress = Progress(0, config.steps)
        self._plan_times: list[float] = []
        self._updates = 0

    def run(self) -> dict[str, Episodes]:
        """Trains to the end, evaluates the agent as it was stored, with and without its planner, and logs it all.

        Returns:
            The final evaluations, `planner` and `policy`.

        Raises:
            DivergedError: when training comes to NaN or infinity; what was stored before stays as it is.
        """
        with Log(self.folder) as log:
            try:
                self._run(log)
            except DivergedError as error:
                raise DivergedError(
                    f"training diverged at step {self.progress.step}: {error}; try a lower --learner.learning-rate "
                    "(a checkpoint stored before is unharmed)"
                ) from error
            self.agent.info.training["seconds"] = round(time.perf_counter() - self._began, 1)
            self.save()
            stored = Agent.load(self.folder, self.config.device)
            final = {
                "planner": self._evaluate(log, stored, self.config.final_episodes, "final"),
                "policy": self._evaluate(log, stored, self.config.final_episodes, "final", planner="policy"),
            }
            self.agent.info.training["seconds_with_final_evaluation"] = round(time.perf_counter() - self._began, 1)
            self.save()
        return final

    def save(self) -> None:
        """Writes the agent as it is now into the run folder, in half precision."""
        self.agent.info.training["steps"] = self.progress.step
        self.agent.save(self.folder, half=True)

    def _run(self, log: Log) -> None:
        config, repeat = self.config, self.info.action_repeat
        self._began = self._stretch_began = time.perf_counter()
        self._stretch_step = 0
        observation = self._reset()
        episode_return, episode_length = 0.0, 0
        while self.progress.step < config.steps:
            random = self.progress.step < config.random_steps or not len(self.experience)
            action = self._act(observation, random)
            next_observation, reward, terminated, truncated, info = self.env.step(action)
            terminated, truncated = bool(terminated), bool(truncated)
            unstable = bool(info.get("unstable", False))
            if unstable:
                # What a diverged simulation reports is no experience; what led there is.
                self.experience.end_episode()
            else:
                self.experience.add(observation, action, float(reward), next_observation, terminated, truncated)
                self.agent.model.norm.update(torch.as_tensor(next_observation, device=self.agent.device).unsqueeze(0))
            observation = next_observation
            episode_return += float(reward)
            episode_length += 1
            before = self.progress.step
            self.progress.step += repeat
            if terminated or truncated:
                self.progress.last_return = episode_return
                log.write(
                    "episode",
                    self.progress.step,
                    {
                        "return": episode_return,
                        "length": episode_length,
                        "terminated": terminated,
                        "unstable": unstable,
                    },
                )
                observation = self._reset()
                episode_return, episode_length = 0.0, 0
            self._learn(log, before)
            every = config.evaluate_every
            if every and self.progress.step < config.steps and self.progress.step // every > before // every:
                self._evaluate(log, self.agent, config.evaluation_episodes, "evaluation")
                self.save()
            if self.progress.step // repeat % self.REPORT_EVERY == 0:
                self._report(log)

    def _reset(self) -> np.ndarray:
        self.agent.reset()
        observation, _ = self.env.reset(seed=int(self._episode_seeds.integers(2**31)))
        return observation

    def _act(self, observation: np.ndarray, random: bool) -> np.ndarray:
        if random:
            return self._random_actions.uniform(-1, 1, self.agent.model.action_dim).astype(np.float32)
        began = time.perf_counter()
        action = self.agent.act(observation, explore=True)
        self._plan_times.append((time.perf_counter() - began) * 1000)
        return action

    def _learn(self, log: Log, before: int) -> None:
        """As many updates as decisions; those of the random ones are made up for at their end."""
        config, repeat = self.config, self.info.action_repeat
        if self.progress.step < config.random_steps or not len(self.experience):
            return
        decisions = self.progress.step // repeat if before < config.random_steps else 1
        for _ in range(decisions * config.updates_per_decision):
            batch = self.experience.sample(
                config.learner.batch_size, config.learner.horizon, self._sampling, self.agent.device
            )
            metrics = self.learner.update(batch)
            self._updates += 1
            if self._updates % self.LOG_EVERY == 0:
                self.progress.phase = "learn"
                values = {name: float(x) for name, x in metrics.items()}
                if not all(np.isfinite(x) for x in values.values()):
                    raise DivergedError(f"the losses are {values}")
                log.write("update", self.progress.step, {"updates": self._updates} | values)
                if self._updates % (4 * self.LOG_EVERY) == 0 or decisions > 1:
                    self.on_progress(self.progress)

    def _evaluate(self, log: Log, agent: Agent, episodes: int, kind: str, **planning: Any) -> Episodes:
        self.progress.phase = "evaluate"
        self.on_progress(self.progress)
        began = time.perf_counter()
        seeds = range(self.config.evaluation_seed, self.config.evaluation_seed + episodes)
        result = evaluate(agent, self.evaluation_env, seeds, **planning)
        if not planning:
            self.progress.evaluation = result.mean_return
        log.write(
            kind,
            self.progress.step,
            {
                "planner": planning.get("planner", agent.planning.planner),
                "mean_return": result.mean_return,
                "interval": result.interval,
                "returns": result.returns,
                "lengths": result.lengths,
                "seeds": result.seeds,
                "milliseconds": result.percentiles(),
                "seconds": time.perf_counter() - began,
            },
        )
        # An evaluation is not part of the stretch that speed is measured over.
        self._stretch_began += time.perf_counter() - began
        return result

    def _report(self, log: Log) -> None:
        now, progress = time.perf_counter(), self.progress
        seconds, steps = now - self._stretch_began, progress.step - self._stretch_step
        progress.phase = "collect"
        if seconds > 0:
            progress.steps_per_second = steps / seconds
        progress.milliseconds_per_plan = float(np.median(self._plan_times)) if self._plan_times else None
        if progress.step > self.config.random_steps and progress.steps_per_second:
            progress.seconds_left = (progress.steps - progress.step) / progress.steps_per_second
        self.on_progress(progress)
        if progress.step % (self.REPORT_EVERY * self.info.action_repeat * 20) == 0:
            log.write(
                "speed",
                progress.step,
                {
                    "steps_per_second": progress.steps_per_second,
                    "milliseconds_per_plan": progress.milliseconds_per_plan,
                    "seconds": now - self._began,
                },
            )
            self._stretch_began, self._stretch_step = now, progress.step
            self._plan_times.clear()


def _sizes(env: gymnasium.Env[Any, Any]) -> tuple[int, int]:
    """Elements of an observation and of an action."""
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        raise ConfigError(f"the environment's observations are {observation}; training needs a flat Box")
    if not isinstance(action, spaces.Box) or len(action.shape) != 1:
        raise ConfigError(f"the environment's actions are {action}; training needs a flat Box")
    if not (np.all(action.low == -1) and np.all(action.high == 1)):
        raise ConfigError("the environment's actions must lie in [-1, 1]; wrap it in gymnasium.wrappers.RescaleAction")
    return observation.shape[0], action.shape[0]
