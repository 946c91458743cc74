"""Training: collect, learn, evaluate, log, save."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from agent import description, resume
from agent.agent import Agent, AgentInfo, configure_torch
from agent.collecting import Beginning, Collector, Lived, sizes
from agent.compiled import CompiledEngine
from agent.config import TrainConfig
from agent.engine import Engine
from agent.errors import ConfigError, DivergedError, ExperienceError, TrainingStopped
from agent.evaluation import Episodes, evaluate
from agent.experience import Experience
from agent.learner import Learner
from agent.lessons import Lessons
from agent.logs import Log, check_length
from agent.overlap import GoesOn, Overlap
from agent.pace import Pace
from agent.progress import Counts, Progress
from agent.resume import Moment
from agent.saving import State, hand_over

Recall = Callable[[Experience], object]
"""Fills a run's experience with what others have lived through, before the run begins."""


class Trainer:
    """Trains one agent in one environment.

    A run can be stopped at any moment, by whatever means, and goes on with `resume` as if nothing had happened: on
    the CPU, weights and metrics come out bit for bit as they would have.

    It goes in stretches of `overlap` decisions (of one, where that is 0). The updates that a stretch makes due are made
    beside the decisions of the next: on a second thread, on the learner's own copy of the model and on the experience
    from before that stretch, while the agent acts with the model from before it. Everything else happens between
    stretches, and before the next one begins the agent is given what was learned. So what comes out is settled by the
    configuration and the seed, and not by which thread is quicker.

    Args:
        env: where experience is collected; flat Box observations, actions in [-1, 1].
        evaluation_env: a second one of the same kind, for evaluation.
        config: everything that can be set.
        info: what the agent is for; its `action_repeat` converts decisions to environment steps.
        folder: the run folder: `config.json` and weights, `metrics.jsonl`, TensorBoard events, `experience/`, and
            `resume/`, the state to go on from.
        on_progress: called every few decisions.
        engine: where the heavy computations are done; None for here. See `agent.many`.

    Attributes:
        exact: False when a run was resumed in an environment that doesn't repeat itself, given the same seed and
            actions. Its running episode was ended, and the run went on with the next.
        owns_folder: whether what lies in the folder is this trainer's, and no other process's.
    """

    REPORT_EVERY = 25  # decisions between progress reports, at least
    LAP = 20  # reports that speed is measured over
    SAVING_SHARE = 0.01  # of the time, at most

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        evaluation_env: gymnasium.Env[Any, Any],
        config: TrainConfig,
        info: AgentInfo,
        folder: Path,
        on_progress: Callable[[Progress], None] | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.env, self.evaluation_env, self.config, self.info, self.folder = env, evaluation_env, config, info, folder
        self.on_progress = on_progress or (lambda progress: None)
        configure_torch(config)
        observation_dim, action_dim = sizes(env)
        streams = np.random.SeedSequence(config.seed).spawn(5)
        seeds = [int(s.generate_state(1, np.uint64)[0] >> 1) for s in streams]
        self.agent = Agent(config, observation_dim, action_dim, info, config.device, seed=seeds[0])
        self._engine = engine or (CompiledEngine(config.planning) if config.compile else Engine())
        self.agent.engine = self._engine
        self._rngs = {
            name: np.random.default_rng(streams[i])
            for i, name in enumerate(("episode_seeds", "random_actions", "sampling"), start=1)
        }
        generator = torch.Generator(self.agent.device).manual_seed(seeds[4])
        self._overlap = 0 if config.offline else config.overlap
        model = copy.deepcopy(self.agent.model) if self._overlap else self.agent.model
        self.learner = Learner(model, config.learner, generator)
        self.progress = Progress(0, config.steps)
        self._counts, self._pace = Counts(), Pace()
        self._lessons = Lessons(
            self.learner, config, self._counts, self._rngs["sampling"], self.agent.device, self._engine
        )
        self._collector = Collector(
            env, self.agent, self._counts, self._rngs["episode_seeds"], self._rngs["random_actions"]
        )
        self._state = State(
            self.agent,
            self.learner,
            self.progress,
            self._counts,
            self._rngs,
            self._collector.noise,
            self._lessons.priorities,
        )
        self._second_thread = Overlap(config.threads)
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
            ValueError: when the environment reports NaN or infinity; likewise.
            TrainingStopped: after `stop`.
        """
        self._check_unused()
        with self._experience() as self.experience:
            self._check_unused()  # under the experience's lock: another process may have been here meanwhile
            if self.experience.total:
                raise ConfigError(f"{str(self.folder)!r} holds experience already; choose another folder")
            with Log(self.folder) as log:
                self.owns_folder = True
                if recall is not None:
                    recall(self.experience)
                    self._lessons.study(self.experience, self.info)
                if self.config.offline and not self._counts.given:
                    raise ConfigError("there is no experience to learn from; learning offline needs some")
                if not self.config.offline:
                    self._begin_episode(self._collector.begin())
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
            if moment.finished and self.config.steps <= max(state.config.steps, moment.step):
                raise ConfigError(f"the run in {str(self.folder)!r} is finished; give it more steps to go on")
            # Everything is looked at before anything is cut back to where the state was saved.
            check_length(self.folder, moment.log)
            self._state.restore(self.folder, state)
            try:
                self.experience.rewind(moment.experience)
            except ExperienceError as error:
                raise ExperienceError("; ".join([str(error), *self.experience.dropped])) from None
            if moment.finished:
                # The final evaluation is about to go from the log; whatever happens then, the run is known to go on.
                moment = replace(moment, finished=False)
                resume.amend(self.folder, self.config, self.info, moment)
            with Log(self.folder, moment.log, moment.step) as log:
                return self._go_on(log, moment)

    def stop(self) -> None:
        """Asks for an end as soon as the state can be saved; called from a signal handler or another thread."""
        self._stopping = True

    def save(self) -> None:
        """Writes the agent as it is now into the run folder, in half precision."""
        self._engine.settle()
        self.agent.info.training["steps"] = self.progress.step
        self.agent.save(self.folder, half=True)

    def _check_unused(self) -> None:
        if resume.exists(self.folder):
            raise ConfigError(f"{str(self.folder)!r} holds a training run already; resume it, or choose another folder")
        if (self.folder / description.FILE).exists():
            raise ConfigError(f"{str(self.folder)!r} holds an agent already; choose another folder")

    def _experience(self) -> Experience:
        config = self.config
        return Experience(
            self.folder / "experience",
            capacity=config.capacity,
            evict=config.evict,
            durability=config.durability,
            seed=config.seed,
        )

    def _go_on(self, log: Log, moment: Moment) -> dict[str, Episodes]:
        """The rest of a run whose state is restored."""
        if not self.config.offline and not self._return_to_the_episode():
            self.exact = False
            self.experience.end_episode()
            self._begin_episode(self._collector.begin())
        self._begin(moment.seconds, moment.saving_seconds)
        return self._finish(log)

    def _begin(self, seconds: float = 0.0, saving: float = 0.0) -> None:
        """Starts the clocks: so many seconds have been spent before, and so many of them on saving."""
        self._pace = Pace(self.progress.step, seconds)
        self._saved, self._saving, self._spent_saving = time.perf_counter(), 0.0, saving

    def _finish(self, log: Log) -> dict[str, Episodes]:
        """Trains to the end, and evaluates."""
        try:
            self._train(log)
            # What comes after is no part of the saved state: it is done anew when this is interrupted, and gives way to
            # more training when the run is given more steps.
            moment = self._save_state(log)
            self._round_off(log)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged at step {self.progress.step}: {error}; try a lower --learner.learning-rate "
                "(a checkpoint stored before is unharmed)"
            ) from error
        training = self.agent.info.training
        training["seconds"] = round(self._pace.seconds, 1)
        training["saving_seconds"] = round(self._spent_saving, 1)
        self.save()
        stored = Agent.load(self.folder, self.config.device)
        if not self.config.compile:  # for what doesn't learn, code would be compiled anew
            stored.engine = self._engine
        final = {
            "planner": self._evaluate(log, stored, self.config.final_episodes, "final"),
            "policy": self._evaluate(log, stored, self.config.final_episodes, "final", planner="policy"),
        }
        training["seconds_with_final_evaluation"] = round(self._pace.seconds, 1)
        self.save()
        self.experience.flush()
        log.sync()
        moment = replace(moment, seconds=self._pace.seconds, saving_seconds=self._spent_saving, finished=True)
        resume.amend(self.folder, self.config, self.info, moment)
        return final

    def _train(self, log: Log) -> None:
        """Trains as far as whole stretches go, where a run of more steps comes by, too."""
        config, counts = self.config, self._counts
        every, length = config.evaluate_every, max(self._overlap, 1)
        while True:
            self._learn(log)
            self._report(log)
            if self.progress.step >= config.steps:
                return
            if every and self.progress.step // every > counts.evaluations:
                try:
                    self._evaluate(log, self.agent, config.evaluation_episodes, "evaluation")
                except TrainingStopped:
                    self._save_state(log)  # its episodes are played anew, what was learned before is kept
                    raise
                self.save()
                counts.evaluations = self.progress.step // every
            if self._decisions_left() < length:
                return
            self._live(log, length)
            self._pause(log)

    def _round_off(self, log: Log) -> None:
        """The decisions that fill no stretch, and the updates still due."""
        left = self._decisions_left()
        if left:
            self._live(log, left)
        while self._counts.due:
            self._look_up()
            self._learn_once(log)
        hand_over(self.learner, self.agent)

    def _decisions_left(self) -> int:
        return max(-(-(self.config.steps - self.progress.step) // self.info.action_repeat), 0)

    def _learn(self, log: Log) -> None:
        """The updates to make before the next stretch: all that are more than it learns beside."""
        # Before anything is lived through, what was given is learned from.
        beside = self._overlap * self.config.updates_per_decision if self.progress.step else 0
        while self._counts.due > beside:
            self._learn_once(log)
            self._pause(log)
        hand_over(self.learner, self.agent)

    def _learn_once(self, log: Log) -> None:
        """One of the updates that are due, and what there is to say of it."""
        counts, progress = self._counts, self.progress
        losses = self._update()
        counts.due -= 1
        if losses is None:
            return
        log.write("update", progress.step, losses)
        many = counts.due >= self.config.updates_per_decision
        progress.phase, progress.updates_due = "learn", counts.due if many else 0
        if counts.updates % (4 * self._lessons.LOG_EVERY) == 0 or many:
            self.on_progress(progress)

    def _update(self) -> dict[str, int | float] | None:
        """One update, on whichever thread; what is to be logged of it."""
        return self._lessons.update(self.experience)

    def _live(self, log: Log, decisions: int) -> None:
        """A stretch: decisions, and beside them the updates that are due."""
        before, counts = self.progress.step, self._counts
        random = before < self.config.random_steps and not counts.given
        lived: list[Lived] = []
        losses: list[dict[str, int | float] | None] = []

        def act() -> None:
            # What is lived through is kept aside: nothing of it is learned from in this stretch.
            lived.extend(self._collect(random) for _ in range(decisions))

        def learn(goes_on: GoesOn) -> None:
            while len(losses) < counts.due and goes_on():
                losses.append(self._update())

        if self.config.offline:
            self.progress.step += decisions * self.info.action_repeat
        elif counts.due:
            self._second_thread.run(learn, act)
        else:
            act()
        for values in losses:
            if values is not None:
                log.write("update", before, values)
        self._store(log, lived)
        counts.due = self._lessons.earned(self.experience, before, self.progress.step, self.info.action_repeat)

    def _collect(self, random: bool) -> Lived:
        """One decision."""
        return self._collector.decide(random)

    def _store(self, log: Log, lived: list[Lived]) -> None:
        """What was lived through, to where it is learned from."""
        for one in lived:
            self.progress.step += self.info.action_repeat
            if one.unstable:
                # What a diverged simulation reports is no experience; what led there is.
                self.experience.end_episode()
            else:
                self.experience.add(one.action, one.reward, one.observation, one.terminated, one.truncated, one.actor)
            if one.ending is not None:
                self.progress.last_return = one.ending.episode_return
                log.write(
                    "episode",
                    self.progress.step,
                    {
                        "return": one.ending.episode_return,
                        "length": one.ending.length,
                        "terminated": one.terminated,
                        "unstable": one.unstable,
                    },
                )
                self._begin_episode(one.ending.following)
        seen = [one.observation for one in lived if not one.unstable]
        if seen:
            self._lessons.take_in(np.stack(seen))

    def _begin_episode(self, beginning: Beginning) -> None:
        info = self.info
        self.experience.begin(
            beginning.observation, task=info.task, seed=beginning.seed, action_repeat=info.action_repeat
        )

    def _pause(self, log: Log) -> None:
        """A moment at which the state can be saved: does so when it is due, and stops when that was asked for."""
        now = time.perf_counter()
        if self._stopping or now - self._saved > max(self.config.save_every, self._saving / self.SAVING_SHARE):
            self._save_state(log)
        if self._stopping:
            raise TrainingStopped

    def _look_up(self, *_: object) -> None:
        """Where the saved state does not know of what is done, which will be done anew."""
        if self._stopping:
            raise TrainingStopped

    def _save_state(self, log: Log) -> Moment:
        """Everything that the rest of the run depends on; it commits the experience and the log up to here."""
        began = time.perf_counter()
        self._engine.settle()
        self.experience.flush()
        log.sync()
        saved = self._state.moment(log.position, self.experience.offset, self._pace.seconds, self._spent_saving)
        resume.write(self.folder, self.config, self.info, saved, self._state.tensors())
        self.experience.release()
        self._saved = time.perf_counter()
        self._saving = self._saved - began
        self._spent_saving += self._saving
        return saved

    def _return_to_the_episode(self) -> bool:
        """Brings the environment to where it was, if it can be."""
        return self._collector.go_back(self.experience.read(self.experience.episodes[-1]))

    def _evaluate(self, log: Log, agent: Agent, episodes: int, kind: str, **planning: Any) -> Episodes:
        self.progress.phase = "evaluate"
        self.on_progress(self.progress)
        began = time.perf_counter()
        seeds = range(self.config.evaluation_seed, self.config.evaluation_seed + episodes)
        result = evaluate(agent, self.evaluation_env, seeds, self._look_up, **planning)
        if not planning:  # NaN is none
            self.progress.evaluation = result.mean_return if np.isfinite(result.mean_return) else None
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
        self._pace.leave_out(time.perf_counter() - began)
        return result

    def _report(self, log: Log) -> None:
        """Tells how far the run is, every few decisions, and logs how fast it is, more rarely."""
        progress, plan_times = self.progress, self._collector.plan_times
        every, reported = self.REPORT_EVERY * self.info.action_repeat, self._counts.reported
        if progress.step // every <= reported // every:
            return
        self._counts.reported = progress.step
        progress.phase, progress.updates_due = "collect", 0
        progress.steps_per_second = self._pace.speed(progress.step) or progress.steps_per_second
        progress.milliseconds_per_plan = float(np.median(plan_times)) if plan_times else None
        if progress.step > self.config.random_steps and progress.steps_per_second:
            progress.seconds_left = (progress.steps - progress.step) / progress.steps_per_second
        self.on_progress(progress)
        lap = every * self.LAP
        if progress.step // lap > reported // lap:
            log.write(
                "speed",
                progress.step,
                {
                    "steps_per_second": progress.steps_per_second,
                    "milliseconds_per_plan": progress.milliseconds_per_plan,
                    "seconds": self._pace.seconds,
                },
            )
            self._pace.begin_lap(progress.step)
            plan_times.clear()
