"""Training: collect, learn, evaluate, log, save."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agent import resume
from agent.agent import Agent, AgentInfo, configure_torch
from agent.config import TrainConfig
from agent.errors import CheckpointError, ConfigError, DivergedError, ExperienceError, TrainingStopped
from agent.evaluation import Episodes, evaluate
from agent.experience import Batch, Experience
from agent.learner import Learner
from agent.logs import Log, check_length
from agent.progress import Counts, Progress
from agent.resume import Moment, RunState
from agent.running import from_arrays, to_arrays

Recall = Callable[[Experience], object]
"""Fills a run's experience with what others have lived through, before the run begins."""


class Trainer:
    """Trains one agent in one environment.

    A run can be stopped at any moment, by whatever means, and goes on with `resume` as if nothing had happened: on
    the CPU, weights and metrics come out bit for bit as they would have.

    Args:
        env: where experience is collected; flat Box observations, actions in [-1, 1].
        evaluation_env: a second one of the same kind, for evaluation.
        config: everything that can be set.
        info: what the agent is for; its `action_repeat` converts decisions to environment steps.
        folder: the run folder: `config.json` and weights, `metrics.jsonl`, TensorBoard events, `experience/`, and
            `resume/`, the state to go on from.
        on_progress: called every few decisions.

    Attributes:
        exact: False when a run was resumed in an environment that doesn't repeat itself, given the same seed and
            actions. Its running episode was ended, and the run went on with the next.
        owns_folder: whether what lies in the folder is this trainer's, and no other process's.
    """

    REPORT_EVERY = 25  # decisions between progress reports
    LOG_EVERY = 250  # updates between logged losses
    MOST_FIRST_UPDATES = 10_000  # on given experience, unless asked for
    SAVING_SHARE = 0.01  # of the time, at most

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
        self._rngs = {
            name: np.random.default_rng(streams[i])
            for i, name in enumerate(("episode_seeds", "random_actions", "sampling"), start=1)
        }
        generator = torch.Generator(self.agent.device).manual_seed(seeds[4])
        self.learner = Learner(self.agent.model, config.learner, generator)
        self.progress = Progress(0, config.steps)
        self._observation = np.zeros(observation_dim, np.float32)
        self._counts = Counts()
        self._plan_times: list[float] = []
        self._stopping, self.exact, self.owns_folder = False, True, False

    def run(self, recall: Recall | None = None) -> dict[str, Episodes]:
        """Trains to the end, evaluates the agent as it was stored, with and without its planner, and logs it all.

        Args:
            recall: fills the run's experience with what was lived through before, to learn from from the start. No
                random actions are taken then.

        Returns:
            The final evaluations, `planner` and `policy`.

        Raises:
            ConfigError: when the folder holds a run already, or there is nothing to learn from.
            DivergedError: when training comes to NaN or infinity; what was stored before stays as it is.
            TrainingStopped: after `stop`.
        """
        if resume.exists(self.folder):
            raise ConfigError(f"{str(self.folder)!r} holds a training run already; resume it, or choose another folder")
        with self._experience() as self.experience, Log(self.folder) as log:
            self.owns_folder = True
            if self.experience.total:
                raise ConfigError(f"{str(self.folder)!r} holds experience already; choose another folder")
            if recall is not None:
                recall(self.experience)
                self._study()
            if self.config.offline and not self._counts.given:
                raise ConfigError("there is no experience to learn from; learning offline needs some")
            if not self.config.offline:
                self._reset()
            self._begin()
            self._save_state(log)
            return self._finish(log)

    def resume(self) -> dict[str, Episodes]:
        """Goes on with the run in the folder; otherwise like `run`.

        The configuration must be the run's own, but for `steps`, which may be more than they were.

        Raises:
            CheckpointError, ExperienceError: when what was saved is damaged or does not belong together.
            ConfigError: when the run is finished.
        """
        resume.read(self.folder)  # without a run to resume, no experience is made either
        with self._experience() as self.experience:
            # Read under the experience's lock: nobody else goes on with the run from here on.
            state = resume.read(self.folder)
            moment = state.moment
            if moment.finished and self.config.steps <= moment.step:
                raise ConfigError(f"the run in {str(self.folder)!r} is finished; give it more steps to go on")
            # Everything is looked at before anything is cut back to where the state was saved.
            check_length(self.folder, moment.log)
            self._restore(state)
            try:
                self.experience.rewind(moment.experience)
            except ExperienceError as error:
                raise ExperienceError("; ".join([str(error), *self.experience.dropped])) from None
            if moment.finished:
                # The final evaluation is about to go from the log; whatever happens then, the run is known to go on.
                moment = replace(moment, finished=False)
                resume.write(self.folder, self.config, self.info, moment, self._tensors() | self._plan())
            with Log(self.folder, moment.log, moment.step) as log:
                return self._go_on(log, moment)

    def stop(self) -> None:
        """Asks for an end as soon as the state can be saved; called from a signal handler or another thread."""
        self._stopping = True

    def save(self) -> None:
        """Writes the agent as it is now into the run folder, in half precision."""
        self.agent.info.training["steps"] = self.progress.step
        self.agent.save(self.folder, half=True)

    def _experience(self) -> Experience:
        config = self.config
        return Experience(
            self.folder / "experience", capacity=config.capacity, evict=config.evict, durability=config.durability
        )

    def _go_on(self, log: Log, moment: Moment) -> dict[str, Episodes]:
        """The rest of a run whose state is restored."""
        if not self.config.offline and not self._return_to_the_episode():
            self.exact = False
            self.experience.end_episode()
            self._reset()
        self._begin(moment.seconds, moment.saving_seconds)
        return self._finish(log)

    def _begin(self, seconds: float = 0.0, saving: float = 0.0) -> None:
        """Starts the clocks: so many seconds have been spent before, and so many of them on saving."""
        self._began = self._stretch_began = time.perf_counter() - seconds
        self._stretch_began += seconds
        self._stretch_step = self.progress.step
        self._saved, self._saving, self._spent_saving = time.perf_counter(), 0.0, saving

    def _finish(self, log: Log) -> dict[str, Episodes]:
        """Trains to the end, and evaluates."""
        try:
            self._train(log)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged at step {self.progress.step}: {error}; try a lower --learner.learning-rate "
                "(a checkpoint stored before is unharmed)"
            ) from error
        self._save_state(log)
        training = self.agent.info.training
        training["seconds"] = round(time.perf_counter() - self._began, 1)
        training["saving_seconds"] = round(self._spent_saving, 1)
        self.save()
        stored = Agent.load(self.folder, self.config.device)
        # What is logged from here on is no part of the saved state: it is logged anew when this is interrupted, and
        # gives way to more training when the run is given more steps.
        position = log.position
        final = {
            "planner": self._evaluate(log, stored, self.config.final_episodes, "final"),
            "policy": self._evaluate(log, stored, self.config.final_episodes, "final", planner="policy"),
        }
        training["seconds_with_final_evaluation"] = round(time.perf_counter() - self._began, 1)
        self.save()
        self._save_state(log, position, finished=True)
        return final

    def _train(self, log: Log) -> None:
        config, counts = self.config, self._counts
        every = config.evaluate_every
        while True:
            while counts.due:
                self._update(log)
                counts.due -= 1
                self._pause(log)
            step = self.progress.step
            if step != counts.reported and step % (self.REPORT_EVERY * self.info.action_repeat) == 0:
                counts.reported = step
                self._report(log)
            if step >= config.steps:
                return
            if every and step // every > counts.evaluations:
                self._evaluate(log, self.agent, config.evaluation_episodes, "evaluation")
                self.save()
                counts.evaluations = step // every
            if not config.offline:
                self._collect(log)
            self.progress.step += self.info.action_repeat
            counts.due += self._earned(step)
            self._pause(log)

    def _collect(self, log: Log) -> None:
        """One decision."""
        counts = self._counts
        random = self.progress.step < self.config.random_steps and not counts.given
        action, actor = self._act(random)
        observation, reward, terminated, truncated, info = self.env.step(action)
        unstable = bool(info.get("unstable", False))
        terminated, truncated = bool(terminated), bool(truncated) or unstable
        if unstable:
            # What a diverged simulation reports is no experience; what led there is.
            self.experience.end_episode()
        else:
            self.experience.add(action, float(reward), observation, terminated, truncated, actor)
            self._take_in(observation[None])
        self._observation = observation
        counts.episode_return += float(reward)
        counts.episode_length += 1
        if terminated or truncated:
            self.progress.last_return = counts.episode_return
            log.write(
                "episode",
                self.progress.step + self.info.action_repeat,
                {
                    "return": counts.episode_return,
                    "length": counts.episode_length,
                    "terminated": terminated,
                    "unstable": unstable,
                },
            )
            self._reset()

    def _reset(self) -> None:
        self.agent.reset()
        counts, info = self._counts, self.info
        counts.episode_return, counts.episode_length = 0.0, 0
        counts.episode_seed = int(self._rngs["episode_seeds"].integers(2**31))
        self._observation, _ = self.env.reset(seed=counts.episode_seed)
        self.experience.begin(
            self._observation, task=info.task, seed=counts.episode_seed, action_repeat=info.action_repeat
        )

    def _act(self, random: bool) -> tuple[np.ndarray, str]:
        """The next action, and who chose it."""
        if random:
            size = self.agent.model.action_dim
            return self._rngs["random_actions"].uniform(-1, 1, size).astype(np.float32), "random"
        began = time.perf_counter()
        action = self.agent.act(self._observation, explore=True)
        self._plan_times.append((time.perf_counter() - began) * 1000)
        return action, self.agent.planning.planner

    def _take_in(self, observations: np.ndarray) -> None:
        self.agent.model.norm.update(torch.as_tensor(observations, device=self.agent.device))

    def _study(self) -> None:
        """Takes given experience in: what is normal in it, and how often to learn from it before acting."""
        counts, config = self._counts, self.config
        counts.given = self.info.training["given"] = self.experience.total
        sizes = self.agent.model.observation_dim, self.agent.model.action_dim
        for episode in self.experience.episodes:
            found = episode.observation_dim, episode.action_dim
            if found != sizes:
                raise ConfigError(
                    f"experience of {episode.task} has observations and actions of {found[0]} and {found[1]} elements; "
                    f"{self.info.task} has {sizes[0]} and {sizes[1]}"
                )
            if episode.decisions:
                self._take_in(self.experience.read(episode).observations[1:])
        first = min(counts.given, self.MOST_FIRST_UPDATES) if config.first_updates is None else config.first_updates
        counts.due = first if counts.given else 0

    def _earned(self, before: int) -> int:
        """Updates that a decision makes due. Those of the random decisions are made up for at their end."""
        config, counts = self.config, self._counts
        begins = 0 if counts.given else config.random_steps
        if self.progress.step < begins or not len(self.experience):
            return 0
        decisions = self.progress.step // self.info.action_repeat if before < begins else 1
        return decisions * config.updates_per_decision

    def _update(self, log: Log) -> None:
        metrics = self.learner.update(self._batch())
        counts = self._counts
        counts.updates += 1
        if counts.updates % self.LOG_EVERY:
            return
        self.progress.phase = "learn"
        values = {name: float(x) for name, x in metrics.items()}
        if not all(np.isfinite(x) for x in values.values()):
            raise DivergedError(f"the losses are {values}")
        log.write("update", self.progress.step, {"updates": counts.updates} | values)
        many = counts.due > self.config.updates_per_decision
        self.progress.updates_due = counts.due - 1 if many else 0
        if counts.updates % (4 * self.LOG_EVERY) == 0 or many:
            self.on_progress(self.progress)

    def _batch(self) -> Batch:
        """Sequences to learn from: of given experience, of the agent's own, or of both."""
        config, given = self.config, self._counts.given
        size, length = config.learner.batch_size, config.learner.horizon
        mine = size
        if given and self.experience.count(0, given):  # some of it is not evicted yet
            # However little of its own the agent has, no batch holds more sequences of it than there are.
            mine = min(self.experience.count(given), size - round(size * config.experience_share))

        def draw(count: int, within: tuple[int, int | None]) -> Batch:
            return self.experience.sample(count, length, self._rngs["sampling"], self.agent.device, within=within)

        if mine == size:
            return draw(size, (given, None))
        theirs = draw(size - mine, (0, given))
        return theirs.beside(draw(mine, (given, None))) if mine else theirs

    def _pause(self, log: Log) -> None:
        """A moment at which the state can be saved: does so when it is due, and stops when that was asked for."""
        now = time.perf_counter()
        if self._stopping or now - self._saved > max(self.config.save_every, self._saving / self.SAVING_SHARE):
            self._save_state(log)
        if self._stopping:
            raise TrainingStopped

    def _look_up(self, *_: object) -> None:
        """In an evaluation, which the saved state does not know of: it is played anew."""
        if self._stopping:
            raise TrainingStopped

    def _save_state(self, log: Log, position: int | None = None, finished: bool = False) -> None:
        """Everything that the rest of the run depends on; it commits the experience and the log up to here."""
        began = time.perf_counter()
        self.experience.flush()
        log.sync()
        plan, running = self._plan(), self.agent.running
        moment = Moment(
            step=self.progress.step,
            counts=self._counts,
            last_return=self.progress.last_return,
            evaluation=self.progress.evaluation,
            rngs={name: dict(rng.bit_generator.state) for name, rng in self._rngs.items()},
            plan_elites=None if running is None else plan["plan.2"].shape[1],
            plan_age=0 if running is None else running.age,
            log=log.position if position is None else position,
            experience=self.experience.offset,
            seconds=began - self._began,
            saving_seconds=self._spent_saving,
            finished=finished,
            device=self.agent.device.type,
        )
        resume.write(self.folder, self.config, self.info, moment, self._tensors() | plan)
        self.experience.release()
        self._saved = time.perf_counter()
        self._saving = self._saved - began
        self._spent_saving += self._saving

    def _tensors(self) -> dict[str, Tensor]:
        """What the state holds whatever the moment."""
        tensors = {f"model.{name}": x for name, x in self.agent.model.state_dict().items()}
        tensors |= {f"learner.{name}": x for name, x in self.learner.state(self._counts.updates > 0).items()}
        return tensors | {"generator": self.agent.generator.get_state()}

    def _plan(self) -> dict[str, Tensor]:
        """The running plan, where there is one."""
        if self.agent.running is None:
            return {}
        actions, std, elites, _ = to_arrays(self.agent.running)
        return {f"plan.{i}": torch.from_numpy(x) for i, x in enumerate((actions, std, elites))}

    def _restore(self, state: RunState) -> None:
        """The reverse of `_save_state`, on a trainer that was just made."""
        moment, agent = state.moment, self.agent
        if moment.device != agent.device.type:
            raise ConfigError(f"the run was trained on {moment.device}; it can't go on on {agent.device.type}")
        self._counts, self.progress.step = moment.counts, moment.step
        self.progress.last_return, self.progress.evaluation = moment.last_return, moment.evaluation
        try:
            for name, rng in self._rngs.items():
                rng.bit_generator.state = moment.rngs[name]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise CheckpointError(f"the state of the run in {str(self.folder)!r} is damaged: see its rngs") from None
        elites, shape = moment.plan_elites, (self.config.planning.horizon, agent.model.action_dim)
        shapes = [] if elites is None else [(1, *shape), (1, *shape), (1, elites, *shape)]
        plan = {f"plan.{i}": torch.empty(shape) for i, shape in enumerate(shapes)}
        tensors = resume.read_state_tensors(self.folder, state, self._tensors() | plan)

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}

        agent.model.load_state_dict(under("model."))
        self.learner.restore(under("learner."))
        agent.generator.set_state(tensors["generator"])
        if plan:
            arrays = (*(tensors[name].numpy() for name in plan), np.full(1, moment.plan_age))
            agent.running = from_arrays(arrays, None, agent.device)

    def _return_to_the_episode(self) -> bool:
        """Brings the environment to where it was: the running episode's seed and actions lead there again.

        Returns:
            Whether they do, which they don't in an environment that takes randomness from elsewhere.
        """
        self._observation, _ = self.env.reset(seed=self._counts.episode_seed)
        if not self._counts.episode_length:
            return True
        lived = self.experience.read(self.experience.episodes[-1])
        for action, expected in zip(lived.actions, lived.observations, strict=False):
            if not np.array_equal(self._observation, expected):
                return False
            self._observation = self.env.step(action)[0]
        return np.array_equal(self._observation, lived.observations[-1])

    def _evaluate(self, log: Log, agent: Agent, episodes: int, kind: str, **planning: Any) -> Episodes:
        self.progress.phase = "evaluate"
        self.on_progress(self.progress)
        began = time.perf_counter()
        seeds = range(self.config.evaluation_seed, self.config.evaluation_seed + episodes)
        result = evaluate(agent, self.evaluation_env, seeds, self._look_up, **planning)
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
        progress.phase, progress.updates_due = "collect", 0
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
