"""How far a training run is: for whoever watches it, and for the run itself."""

from dataclasses import dataclass


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
        updates_due: updates to make before the next decision, where there are many.
        seconds_left: estimate of the time to the end; None while there is nothing to go by.
    """

    step: int
    steps: int
    phase: str = "collect"
    last_return: float | None = None
    evaluation: float | None = None
    steps_per_second: float = 0.0
    milliseconds_per_plan: float | None = None
    updates_due: int = 0
    seconds_left: float | None = None


@dataclass
class Counts:
    """Where a run stands, for itself.

    Attributes:
        updates: made so far.
        due: updates to make before the next decision.
        evaluations: intervals of `evaluate_every` whose evaluation was played.
        reported: step of the last report.
        given: decisions of experience that the run began with.
        episode_seed: that the running episode's environment was reset with.
        episode_return: of the running episode, so far.
        episode_length: decisions of it.
    """

    updates: int = 0
    due: int = 0
    evaluations: int = 0
    reported: int = 0
    given: int = 0
    episode_seed: int = 0
    episode_return: float = 0.0
    episode_length: int = 0
