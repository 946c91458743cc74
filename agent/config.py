"""Every setting of an agent and its training, and the presets.

There is one set of hyper-parameters for all tasks. A preset changes sizes only: widths, ensemble members, batch and
candidates. Configurations are frozen and round-trip through JSON; an unknown key is an error.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import planners
from agent.errors import ConfigError
from planners.errors import nearest

T = TypeVar("T")
Bootstrap = Literal["last", "mean", "own"]
# Seeds of episodes lie below this: not every simulator takes larger ones.
MOST_SEEDS = 2**31


def _within(config: Any, section: str, low: int | float, high: int | float, *names: str) -> None:
    """Makes sure that numbers lie in [low, high], which NaN does not."""
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high:
            raise ConfigError(f"{section}{name} is {value}; it must lie between {low:,} and {high:,}")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the latent world model.

    Attributes:
        latent_dim: elements of a latent state, a multiple of `simplex_dim`.
        hidden_dim: width of every hidden layer but the encoder's.
        encoder_dim: width of the encoder's hidden layer.
        reward_head: `shared`, a linear layer on the dynamics' last hidden layer (as MR.Q reads rewards off its joint
            embedding, arXiv 2501.16142); or `own`, an MLP of its own.
        simplex_dim: elements of one simplex of the latent (simplicial normalisation, arXiv 2204.00616).
        value_heads: members of the value ensemble.
        bins: classes of the two-hot regression of rewards and values.
        bin_range: the classes span [-bin_range, bin_range] in symlog space.
        observation_clip: normalised observations are clipped to [-observation_clip, observation_clip].
    """

    latent_dim: int = 128
    hidden_dim: int = 192
    encoder_dim: int = 256
    reward_head: Literal["shared", "own"] = "shared"
    simplex_dim: int = 8
    value_heads: int = 2
    bins: int = 101
    bin_range: float = 10.0
    observation_clip: float = 10.0

    def __post_init__(self) -> None:
        _within(self, "model.", 1, 16_384, "latent_dim", "hidden_dim", "encoder_dim", "simplex_dim", "value_heads")
        _within(self, "model.", 2, 16_384, "bins")
        _within(self, "model.", 1e-3, 80, "bin_range")  # its exponential must be a float32
        _within(self, "model.", 1e-3, 1e6, "observation_clip")
        if self.latent_dim % self.simplex_dim:
            raise ConfigError(
                f"model.latent_dim is {self.latent_dim}; it must be a multiple of simplex_dim, {self.simplex_dim}"
            )


@dataclass(frozen=True)
class PlanningConfig:
    """How the agent plans.

    Attributes:
        planner: a registered planner's name, or `policy` for the policy prior alone, without search.
        horizon: decisions looked ahead.
        samples: candidates drawn in each iteration.
        iterations: rounds of the search.
        elites: candidates that the search distribution is refitted to.
        proposals: candidates drawn from the policy prior, beside `samples`.
        bootstrap: which imagined states' values a predicted return ends with: `last`, where the horizon ends; `mean`,
            of all depths (EfficientTDMPC, arXiv 2605.16692); or `own`, of all depths and of the state now, for the
            candidate's own next action. The other two value states for the policy prior's, which keeps a search where
            it is for what the prior would do there, and nobody does, so that no experience ever corrects that value.
        indifference: in units of return: where the best candidate promises less than that more than the median one,
            exploration is wider than the search came to be, in proportion. While nothing earns anything, a search
            follows its model's errors, always the same way, and noise finds more. 0 for never.
        pessimism: which of the ensemble's values imagined states have: 0 their mean, 1 the smallest, and in between. A
            search finds the states whose values err upwards; what the members don't agree on is where they may.
        knots: actions searched for, evenly over the horizon; None for one a decision.
        interpolation: what lies between knots: `zero`, `linear` or `cubic`.
        noise_beta: colour of the search's noise in time, 0 for white; None for the planner's own.
        execute: `mean` of the search distribution or `best` candidate; None for the planner's own.
        replan_every: decisions that a plan is carried out for before the next one is made.
        budget_ms: milliseconds that a decision may take; the plan is then the best found until then. None: as long
            as the iterations take.
    """

    planner: str = "mppi"
    horizon: int = 3
    samples: int = 96
    iterations: int = 3
    elites: int = 24
    proposals: int = 16
    bootstrap: Bootstrap = "own"
    indifference: float = 1.0
    pessimism: float = 0.0
    knots: int | None = None
    interpolation: Literal["zero", "linear", "cubic"] = "cubic"
    noise_beta: float | None = None
    execute: Literal["mean", "best"] | None = None
    replan_every: int = 1
    budget_ms: float | None = None

    def __post_init__(self) -> None:
        if self.bootstrap not in (known := get_args(Bootstrap)):
            raise ConfigError(f"planning.bootstrap is {self.bootstrap!r}; {nearest(str(self.bootstrap), known)}")
        _within(self, "planning.", 1, 1000, "horizon")
        _within(self, "planning.", 1, 100_000, "iterations")
        _within(self, "planning.", 1, self.horizon, "replan_every")
        if self.budget_ms is not None:
            _within(self, "planning.", 1e-3, 1e9, "budget_ms")
        _within(self, "planning.", 1, 100_000, "samples", "elites")
        _within(self, "planning.", 0, 100_000, "proposals")
        _within(self, "planning.", 0, 1e9, "indifference")
        _within(self, "planning.", 0, 1, "pessimism")

    def make(self, action_dim: int) -> planners.Planner | None:
        """The planner; None for `policy`.

        Raises:
            planners.PlannerError: when there is none of that name, or it can't have these options.
        """
        if self.planner == "policy":
            return None
        # What is left comes under the same name on both sides.
        ours = {"planner", "proposals", "bootstrap", "indifference", "pessimism", "replan_every", "budget_ms"}
        knobs = {name: x for name, x in vars(self).items() if name not in ours and x is not None}
        return planners.make(self.planner, action_dim=action_dim, **knobs)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Counts of candidates that a planner's scorings have or fit in, ascending; the last has room to remember."""
        most = self.samples + self.proposals + self.elites + 1
        return tuple(sorted({1, self.samples, self.samples + self.proposals + 1, most}))

    def changed(self, **changes: Any) -> "PlanningConfig":
        """The same with some options changed.

        A planner whose `samples` and `iterations` mean something of its own begins with its own, and one that takes
        the place of such a planner with the defaults.

        Raises:
            ConfigError, planners.PlannerError: for what does not exist or makes no sense.
        """
        name = changes.get("planner", self.planner)
        before, now = (None if x == "policy" else planners.get(x) for x in (self.planner, name))
        if name != self.planner and any(x is not None and x.own_size for x in (before, now)):
            sizes = now.Config if now is not None and now.own_size else PlanningConfig
            changes = {"samples": sizes.samples, "iterations": sizes.iterations} | changes
        try:
            return dataclasses.replace(self, **changes)
        except TypeError as error:
            raise ConfigError(f"no such planning option: {error}") from None


@dataclass(frozen=True)
class LearnerConfig:
    """How the world model, the value ensemble and the policy prior learn.

    The losses and their weights follow TD-MPC2 (Hansen, Su and Wang, arXiv 2310.16828) unless a line says otherwise.

    Attributes:
        batch_size: sequences in one update.
        horizon: decisions that the latent dynamics are unrolled over in training.
        learning_rate: AdamW's step size.
        encoder_rate: factor on the encoder's step size.
        weight_decay: AdamW's decoupled decay (SimBa, arXiv 2410.09754).
        gradient_clip: largest norm of the gradients.
        consistency_weight: of the joint-embedding prediction loss.
        reward_weight: of the reward loss.
        value_weight: of the value loss.
        continue_weight: of the continuation loss, where an environment can terminate.
        rho: weight of a step of the unroll relative to the one before it.
        returns: what the critic bootstraps from: `multi`, the rewards up to the end of the sampled sequence and the
            value there (multi-step returns, as in MR.Q, arXiv 2501.16142); or `single`, the next step's value.
        contrast_weight: of telling each next latent from the batch's others by the predicted one (InfoNCE, arXiv
            1807.03748; as in DR.Q, arXiv 2605.11711).
        contrast_temperature: divides its cosine similarities.
        slow_encoder: whether targets come from an encoder that follows slowly, as the target ensemble does (DR.Q).
        imitation_weight: of the policy's squared distance to the actions taken, mostly the planner's and its noise's,
            beside its objective of a high value (TD3+BC, arXiv 2106.06860; TD-M(PC)2, arXiv 2502.03550, on why planners
            need it).
        imitation_temperature: relative to the spread of values, how much less the critic may expect of one of those
            actions than of the policy's own before it counts little: exp(-less / (spread * temperature)). Advantages
            weigh so in AWR (arXiv 1910.00177), but here never more than 1, as in a smooth Q-filter (arXiv 1709.10089).
            None: all count alike.
        priority_exponent: of the size of a decision's value error, at least 1, that makes it likely to be drawn (LAP,
            arXiv 2007.06049); 0 draws all alike.
        priority_fade: factor on a decision's priority for each one made since (DR.Q).
        priority_floor: where that factor stops falling.
        target_rate: exponential moving average of the target networks.
        entropy_weight: of the policy's entropy.
        log_std_min: smallest log standard deviation of the policy.
        log_std_max: largest log standard deviation of the policy.
        discount: per decision; None derives it from the length of an episode of D decisions, 1 - 5/D kept within
            [0.95, 0.995].
    """

    batch_size: int = 128
    horizon: int = 3
    learning_rate: float = 3e-4
    encoder_rate: float = 0.3
    weight_decay: float = 1e-2
    gradient_clip: float = 20.0
    consistency_weight: float = 20.0
    reward_weight: float = 0.1
    value_weight: float = 0.1
    continue_weight: float = 1.0
    rho: float = 0.5
    returns: Literal["multi", "single"] = "multi"
    contrast_weight: float = 0.1
    contrast_temperature: float = 0.1
    slow_encoder: bool = True
    imitation_weight: float = 0.1
    imitation_temperature: float | None = 1e-3
    priority_exponent: float = 0.4
    priority_fade: float = 0.9999
    priority_floor: float = 0.1
    target_rate: float = 0.01
    entropy_weight: float = 1e-4
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    discount: float | None = None

    def __post_init__(self) -> None:
        _within(self, "learner.", 1, 100_000, "batch_size")
        _within(self, "learner.", 1, 1000, "horizon")
        _within(self, "learner.", 0, 1, "learning_rate", "rho", "target_rate")
        _within(self, "learner.", 0, 4, "priority_exponent")
        _within(self, "learner.", 1e-6, 1, "priority_fade", "priority_floor")
        _within(self, "learner.", 1e-3, 1e3, "contrast_temperature")
        _within(self, "learner.", 1e-9, 1e9, "gradient_clip")
        weights = "consistency_weight", "contrast_weight", "reward_weight", "value_weight", "continue_weight"
        _within(
            self, "learner.", 0, 1e6, "encoder_rate", "weight_decay", "entropy_weight", "imitation_weight", *weights
        )
        _within(self, "learner.", -20, 10, "log_std_min", "log_std_max")
        if self.log_std_min >= self.log_std_max:
            raise ConfigError(
                f"learner.log_std_min is {self.log_std_min}; it must lie below log_std_max, {self.log_std_max}"
            )
        if self.imitation_temperature is not None:
            _within(self, "learner.", 1e-9, 1e9, "imitation_temperature")
        if self.discount is not None and not 0 < self.discount < 1:
            raise ConfigError(f"learner.discount is {self.discount}; it must lie between 0 and 1")

    def resolve_discount(self, decisions: int | None) -> float:
        """The discount for episodes of `decisions` decisions (None: endless, or not known)."""
        if self.discount is not None:
            return self.discount
        if decisions is None:
            return 0.99
        return min(max(1 - 5 / max(decisions, 1), 0.95), 0.995)


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        steps: environment steps, action repeat included.
        seed: the one seed that all randomness of the run flows from.
        random_steps: environment steps of random actions to begin with.
        noise_time: decisions over which random actions and exploration noise resemble each other in half of the
            episodes, which moves bodies that have inertia (the Ornstein-Uhlenbeck process of DDPG, arXiv 1509.02971); 0
            for uniformly random actions and white noise.
        updates_per_decision: gradient updates for each decision taken.
        overlap: decisions in a stretch of acting while a second thread learns, for two cores; 0 to act and learn in
            turn, on one. The agent then acts with what it had learned when the stretch began, and it learns from what
            it had lived through by then; how many updates it makes is the same. Evaluations, saving and stopping wait
            for the end of a stretch. A run is the same again for the same seed, however busy the machine is.
        capacity: decisions that the experience holds for learning.
        evict: what makes room when there are more: the `oldest` decisions go, or a `reservoir` keeps any stretch of
            experience with the same probability.
        durability: `system` leaves it to the operating system when experience reaches the disk: a killed process loses
            nothing, a power cut may. `episode` makes sure of it at every episode's end.
        save_every: seconds between two saved states of the run, from which it can be resumed exactly. Saving never
            takes more than a hundredth of the time, so where it is slow it happens more rarely.
        experience_share: share of each batch drawn from the experience that was given to begin with, once there is
            some of the agent's own (symmetric sampling, RLPD, arXiv 2302.02948).
        first_updates: updates on given experience before the first decision; None for as many as decisions were
            given, at most 10,000.
        offline: learn from given experience alone, without acting. `steps` then says how many environment steps'
            worth of updates to make, beside the first ones.
        evaluate_every: environment steps between evaluations (0: only at the end).
        evaluation_episodes: episodes of an evaluation while training.
        final_episodes: episodes of the evaluation at the end, with and without the planner.
        evaluation_seed: seed of the first evaluation episode; the same episodes every time.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        threads: torch threads of this process. One is best on small machines: run a second task beside it instead.
        compile: let torch compile what is computed all the time, which takes a C++ compiler, and a minute or two at the
            first run of a task: worth it from some ten thousand steps on. The numbers are the same to rounding.
        matmul_precision: torch's float32 matrix-product precision. `medium` lets a processor with bf16 units (AMX)
            multiply in bf16 and add in float32. `highest` is full precision by whichever library is fast on this
            processor (see `agent.precision`), and `high` by the one that torch takes.
        model: sizes of the world model.
        learner: how it learns.
        planning: how it plans.
    """

    steps: int = 100_000
    seed: int = 0
    random_steps: int = 2_000
    noise_time: float = 4.0
    updates_per_decision: int = 2
    overlap: int = 0
    capacity: int = 1_000_000
    evict: Literal["oldest", "reservoir"] = "oldest"
    durability: Literal["system", "episode"] = "system"
    save_every: float = 60.0
    experience_share: float = 0.5
    first_updates: int | None = None
    offline: bool = False
    evaluate_every: int = 20_000
    evaluation_episodes: int = 5
    final_episodes: int = 10
    evaluation_seed: int = 10_000
    device: str = "auto"
    threads: int = 1
    compile: bool = False
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    model: ModelConfig = field(default_factory=ModelConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)

    def __post_init__(self) -> None:
        _within(self, "", 1, 10**12, "steps", "capacity")
        _within(self, "", 1, 10**6, "evaluation_episodes", "final_episodes")
        _within(self, "", 1, 1024, "threads")
        _within(self, "", 0, 10**12, "random_steps", "evaluate_every", "seed")
        _within(self, "", 0, 1000, "updates_per_decision")
        _within(self, "", 0, 10_000, "overlap")
        _within(self, "", 0, 10**9, "save_every", "noise_time")
        _within(self, "", 0, 1, "experience_share")
        if self.first_updates is not None:
            _within(self, "", 0, 10**9, "first_updates")
        most = MOST_SEEDS - max(self.evaluation_episodes, self.final_episodes)
        _within(self, "", 0, most, "evaluation_seed")


PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        model=ModelConfig(latent_dim=64, hidden_dim=96, encoder_dim=96),
        learner=LearnerConfig(batch_size=64),
        planning=PlanningConfig(samples=64, elites=16, proposals=8),
    ),
    "small": TrainConfig(),
    "base": TrainConfig(
        model=ModelConfig(latent_dim=512, hidden_dim=512, encoder_dim=256, value_heads=5),
        learner=LearnerConfig(batch_size=256),
        planning=PlanningConfig(samples=512, iterations=6, elites=64, proposals=24),
    ),
}
"""Named sizes: `tiny` for tests and first tries, `small` for a CPU (the default), `base` is TD-MPC2's for a GPU."""


def preset(name: str) -> TrainConfig:
    """The configuration of a preset.

    Raises:
        ConfigError: when there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """A configuration from plain JSON values, the reverse of `to_dict`.

    Raises:
        ConfigError: for an unknown key or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the configuration'} is {type(values).__name__}; expected an object")
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ConfigError(f"unknown setting {path!r}; {nearest(str(key), known)}")
        kind = known[key].type
        if dataclasses.is_dataclass(kind):
            arguments[key] = from_dict(kind, value, path)  # type: ignore[arg-type]
        else:
            arguments[key] = _checked(value, kind, path)
    return cls(**arguments)


def _checked(value: Any, kind: Any, path: str) -> Any:
    """`value`, when it is of the annotated type; an int is taken for a float."""
    options = getattr(kind, "__args__", None) or (kind,)
    # A Literal's values are options of their own, also where it is itself one of several.
    options = [part for option in options for part in getattr(option, "__args__", (option,))]
    for option in options:
        if isinstance(option, str):  # a Literal's value
            if value == option:
                return value
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ConfigError(f"{path} is {value}; it must be finite")
            return float(value)
        elif option is int and isinstance(value, bool):
            continue
        elif isinstance(value, option):
            return value
    raise ConfigError(f"{path} is {value!r}; expected {getattr(kind, '__name__', kind)}")
