"""`preplay run TASK`."""

import time
from dataclasses import dataclass
from typing import Any

import envs
from agent import Episodes, RandomActor, play
from preplay.actors import OF_THE_LEARNED_MODEL, RANDOM, Cast, cast, check_seeds
from preplay.errors import UsageError
from preplay.options import OptionalFile, OptionalFloat, OptionalFolder, OptionalInt, OptionalName, TaskName
from preplay.output import print_object
from preplay.progress import EpisodeDisplay
from preplay.provenance import commit
from preplay.simulated import LEARNED
from preplay.text import interval_text, place
from preplay.video import HEIGHT, WIDTH, Video, check_video_path

# Options that change how is planned.
PLANNING = (
    "horizon",
    "samples",
    "iterations",
    "knots",
    "interpolation",
    "noise_beta",
    "execute",
    "replan_every",
    "budget_ms",
    *OF_THE_LEARNED_MODEL,
)


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
    """mppi, cem, icem, cmaes, gradient, predictive, shooting, policy (no search) or random. By default the agent's."""
    model: str = LEARNED
    """learned, simulator (the true dynamics up to the horizon) or simulator+value (plus the agent's value there)."""
    episodes: int = 10
    """How many."""
    seed: int = 10_000
    """Seed of the first episode; the next ones count up from it."""
    video: OptionalFile = None
    """Write an mp4 of the first episode here."""
    horizon: OptionalInt = None
    """Decisions looked ahead. By default the agent's, as for the next two; in the simulator alone 30 and iCEM's."""
    samples: OptionalInt = None
    """Candidate action sequences of an iteration."""
    iterations: OptionalInt = None
    """Iterations of the planner's loop, for each decision."""
    knots: OptionalInt = None
    """Actions searched for, evenly over the horizon. By default one a decision."""
    interpolation: OptionalName = None
    """What lies between knots: zero, linear or cubic."""
    noise_beta: OptionalFloat = None
    """Colour of the search's noise in time: 0 is white, 1 pink, 2 red."""
    execute: OptionalName = None
    """mean of the search distribution, or best candidate."""
    replan_every: OptionalInt = None
    """Decisions that a plan is carried out for before the next one is made."""
    budget_ms: OptionalFloat = None
    """Milliseconds that a decision may take: the plan is the best found until then. Set --iterations high with it."""
    bootstrap: OptionalName = None
    """What predicted returns end with: last, mean or own; see --planning.bootstrap of train. Learned model alone."""
    pessimism: OptionalFloat = None
    """Which of the ensemble's values imagined states have: 0 for the mean, 1 for the smallest. Learned model alone."""
    action_repeat: OptionalInt = None
    """Environment steps that one decision lasts. By default what the agent was trained with."""
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
            self.model,
            self.action_repeat,
            **{name: getattr(self, name) for name in PLANNING},
        )
        size: dict[str, Any] = {"render_mode": "rgb_array", "width": WIDTH, "height": HEIGHT} if self.video else {}
        env = who.env(**size)
        try:
            actor = who.actor(env)
            episodes = self._play(env, actor)
        finally:
            env.close()
        planner = RANDOM if isinstance(actor, RandomActor) else actor.planning.planner
        budget = None if isinstance(actor, RandomActor) or actor.budget is None else 1000 * actor.budget
        if self.json:
            print_object(self._result(who, planner, episodes))
        else:
            print(sentence(planner, episodes, budget))
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
            "checkpoint": None if who.checkpoint is None else place(who.checkpoint),
            "planner": planner,
            "model": who.model,
            "planning": dict(who.planning),
            "episodes": len(episodes.returns),
            "seed": self.seed,
            "returns": episodes.returns,
            "mean_return": episodes.mean_return,
            "interval": episodes.interval,
            "milliseconds": episodes.percentiles(),
            "misses": episodes.misses,
            "lengths": episodes.lengths,
            "terminated": episodes.terminated,
            "unstable": episodes.unstable,
            "action_repeat": who.action_repeat,
            "video": None if self.video is None else str(self.video),
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
        }


def sentence(planner: str, episodes: Episodes, budget_ms: float | None = None) -> str:
    """How the episodes went, in a line or two."""
    count = len(episodes.returns)
    plural = "" if count == 1 else "s"
    spread = interval_text(episodes.interval, 1)
    lines = [
        f"{planner}: mean return {episodes.mean_return:.1f} over {count} episode{plural}, 95 % interval {spread}",
        "returns: " + " ".join(f"{x:.1f}" for x in episodes.returns),
        "milliseconds a decision: " + ", ".join(f"{name} {x:.1f}" for name, x in episodes.percentiles().items()),
    ]
    if budget_ms is not None:
        late, decisions = sum(episodes.misses), len(episodes.milliseconds)
        lines.append(f"{late} of {decisions} decisions ({late / decisions:.1%}) took longer than {budget_ms:g} ms")
    fallen, diverged = sum(episodes.terminated), sum(episodes.unstable)
    if fallen:
        earliest = min(length for length, ended in zip(episodes.lengths, episodes.terminated, strict=True) if ended)
        lines.append(f"{fallen} of {count} ended by termination, after {earliest} decisions at the earliest")
    if diverged:
        lines.append(f"in {diverged} of {count} the physics diverged; they count with what they had earned until then")
    return "\n".join(lines)
