"""`preplay run TASK`."""

import time
from dataclasses import dataclass
from typing import Any

import envs
from agent import Agent, Episodes, play
from preplay.actors import Cast, cast, check_seeds
from preplay.errors import UsageError
from preplay.options import OptionalFile, OptionalFolder, OptionalInt, OptionalName, TaskName
from preplay.output import print_object
from preplay.progress import EpisodeDisplay
from preplay.text import interval_text
from preplay.video import HEIGHT, WIDTH, Video, check_video_path


@dataclass(frozen=True)
class Run:
    """Play benchmark episodes with a trained agent, and say how they went.

    Every episode is counted. Its seed fixes the starting state and the planner's candidates, so the same command
    plays the same episodes, and two planners that are compared meet the same starting states.
    """

    task: TaskName
    """A task that `preplay tasks` lists, any Gymnasium id with continuous actions, or module:Id."""
    checkpoint: OptionalFolder = None
    """Folder of the agent. By default the one that ships with preplay."""
    planner: OptionalName = None
    """mppi, cem, policy (the policy prior alone, no search) or random. By default what the agent was trained with."""
    episodes: int = 10
    """How many."""
    seed: int = 10_000
    """Seed of the first episode; the next ones count up from it."""
    video: OptionalFile = None
    """Write an mp4 of the first episode here."""
    horizon: OptionalInt = None
    """Decisions looked ahead. By default what the agent was trained with, as for the next two."""
    samples: OptionalInt = None
    """Candidate action sequences of an iteration."""
    iterations: OptionalInt = None
    """Iterations of the planner's loop, for each decision."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""

    def __call__(self) -> None:
        """Plays."""
        if self.episodes < 1:
            raise UsageError(f"--episodes is {self.episodes}; it must be at least 1")
        check_seeds(self.seed, self.episodes)
        if self.video is not None:
            check_video_path(self.video)
        who = cast(
            self.task,
            self.planner,
            self.checkpoint,
            self.device,
            horizon=self.horizon,
            samples=self.samples,
            iterations=self.iterations,
        )
        size: dict[str, Any] = {"render_mode": "rgb_array", "width": WIDTH, "height": HEIGHT} if self.video else {}
        env = who.env(**size)
        try:
            actor = who.actor(env)
            episodes = self._play(env, actor)
        finally:
            env.close()
        planner = actor.planning.planner if isinstance(actor, Agent) else "random"
        if self.json:
            print_object(self._result(who, planner, episodes))
        else:
            print(sentence(planner, episodes))
            if self.video:
                print(f"the first episode is in {self.video}")

    def _play(self, env: Any, actor: Any) -> Episodes:
        task = env.get_wrapper_attr("task")
        seeds = range(self.seed, self.seed + self.episodes)
        video = Video(self.video, 1 / envs.decision_seconds(env)) if self.video else None
        with EpisodeDisplay(task.name, self.episodes, task.decisions, quiet=self.json) as display:
            if video is None:
                return play(actor, env, seeds, on_decision=display.decision)
            # The first episode is filmed, the others needn't wait for their pictures.
            with video:
                first = play(
                    actor, env, seeds[:1], on_decision=display.decision, on_frame=lambda _, frame: video.add(frame)
                )
            display.begin(1)
            return first.extend(play(actor, env, seeds[1:], on_decision=display.decision))

    def _result(self, who: Cast, planner: str, episodes: Episodes) -> dict[str, Any]:
        return {
            "task": who.task,
            "checkpoint": None if who.checkpoint is None else str(who.checkpoint),
            "planner": planner,
            "episodes": len(episodes.returns),
            "seed": self.seed,
            "returns": episodes.returns,
            "mean_return": episodes.mean_return,
            "interval": episodes.interval,
            "milliseconds": episodes.percentiles(),
            "lengths": episodes.lengths,
            "terminated": episodes.terminated,
            "unstable": episodes.unstable,
            "action_repeat": who.action_repeat,
            "video": None if self.video is None else str(self.video),
            "date": time.strftime("%Y-%m-%d"),
        }


def sentence(planner: str, episodes: Episodes) -> str:
    """How the episodes went, in a line or two."""
    count = len(episodes.returns)
    plural = "" if count == 1 else "s"
    spread = interval_text(episodes.interval, 1)
    lines = [
        f"{planner}: mean return {episodes.mean_return:.1f} over {count} episode{plural}, 95 % interval {spread}",
        "returns: " + " ".join(f"{x:.1f}" for x in episodes.returns),
        "milliseconds a decision: " + ", ".join(f"{name} {x:.1f}" for name, x in episodes.percentiles().items()),
    ]
    fallen, diverged = sum(episodes.terminated), sum(episodes.unstable)
    if fallen:
        lines.append(
            f"{fallen} of {count} ended by termination, after {min(episodes.lengths)} decisions at the earliest"
        )
    if diverged:
        lines.append(f"in {diverged} of {count} the physics diverged; they count with what they had earned until then")
    return "\n".join(lines)
