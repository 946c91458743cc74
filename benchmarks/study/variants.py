"""What is compared: the agent as it is, controls that bound what a claim may say, and ablations."""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import envs
from agent import AgentInfo, TrainConfig
from agent.config import to_dict
from planners.errors import nearest
from preplay.cli import parse
from preplay.errors import UsageError
from preplay.train import Train

# What two runs of one variant may differ in: how long they learn, and how they are watched and run.
_FREE = {
    "steps",
    "seed",
    "save_every",
    "durability",
    "evaluate_every",
    "evaluation_episodes",
    "final_episodes",
    "device",
    "threads",
    "compile",
    "matmul_precision",
}


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: part of paths, and what tables call it.
        asks: the question that it answers, one sentence.
        options: of `preplay train`, beside task, seed and steps.
        kind: what it is to the study.
        until: the last commit that could train it, where what it needs was taken out; its curves are still compared.
    """

    name: str
    asks: str
    options: tuple[str, ...] = ()
    kind: Literal["full", "control", "ablation"] = "ablation"
    until: str | None = None

    @property
    def arguments(self) -> list[str]:
        """Its options with its preset, which is small unless they name one."""
        return [*(() if "--preset" in self.options else ("--preset", "small")), *self.options]


_ALL = (
    Variant("full", "How well does preplay learn with its defaults?", kind="full"),
    Variant(
        "planner-off",
        "How much of it is the learner alone, which neither searches while it collects nor when it is evaluated?",
        ("--planning.planner", "policy"),
        kind="control",
    ),
    Variant(
        "one-update",
        "How much of it is left with a single gradient update a decision, as TD-MPC2 makes?",
        ("--updates-per-decision", "1"),
        kind="control",
    ),
    Variant(
        "tdmpc2",
        "How well does TD-MPC2's recipe learn at the same size, with observations normalised as in all variants?",
        (
            *("--updates-per-decision", "1", "--random-steps", "5000", "--noise-time", "0"),
            *("--learner.returns", "single", "--learner.contrast-weight", "0", "--learner.no-slow-encoder"),
            *("--learner.imitation-weight", "0", "--learner.priority-exponent", "0", "--learner.weight-decay", "0"),
            *("--model.reward-head", "own", "--planning.bootstrap", "last", "--planning.indifference", "0"),
        ),
        kind="control",
    ),
    Variant(
        "overlapped",
        "What does it cost to act on one core while the other learns, in stretches of 16 decisions?",
        ("--overlap", "16"),
        kind="control",
    ),
    # An ablation is a line here.
    Variant("single-step-returns", "What do multi-step returns add?", ("--learner.returns", "single")),
    Variant(
        "prior-values",
        "What does valuing states for a candidate's own next action add, to valuing them for the policy prior's?",
        ("--planning.bootstrap", "mean"),
    ),
    Variant(
        "no-indifference",
        "What does exploring widely add, where all candidates promise alike?",
        ("--planning.indifference", "0"),
    ),
    Variant(
        "no-doubt",
        "What did it add not to explore around what the search chose where all promise alike? The default of today.",
        until="2935275",
    ),
    Variant("all-wide", "What did exploring half of the episodes narrowly add?", until="944eba5"),
    Variant(
        "last-value",
        "What do values of all depths, for a candidate's own actions, add to the prior's where the horizon ends?",
        ("--planning.bootstrap", "last"),
    ),
    Variant("residual-encoder", "What would a residual encoder add?", until="44122b8"),
    Variant("no-contrast", "What does telling latents apart add?", ("--learner.contrast-weight", "0")),
    Variant("fast-encoder", "What does a slow encoder of targets add?", ("--learner.no-slow-encoder",)),
    Variant("no-imitation", "What does learning from the planner's actions add?", ("--learner.imitation-weight", "0")),
    Variant(
        "imitate-all",
        "What does it add not to learn from actions of which the critic thinks less than of the policy's own?",
        ("--learner.imitation-temperature", "None"),
    ),
    Variant(
        "logistic-imitation",
        "What would it add to weigh what is imitated by a logistic function of how much more the critic expects of it?",
        until="37a6f12",
    ),
    Variant("uniform-replay", "What do fading priorities add?", ("--learner.priority-exponent", "0")),
    Variant(
        "plain-learner",
        "What do fading priorities, telling latents apart and a slow encoder of targets add together?",
        ("--learner.priority-exponent", "0", "--learner.contrast-weight", "0", "--learner.no-slow-encoder"),
    ),
    Variant(
        "contrast-alone",
        "What do fading priorities and a slow encoder of targets add together?",
        ("--learner.priority-exponent", "0", "--learner.no-slow-encoder"),
    ),
    Variant("white-noise", "What does exploring with correlated noise add?", ("--noise-time", "0")),
)
VARIANTS = {variant.name: variant for variant in _ALL}


def find(name: str) -> Variant:
    """The variant of that name, to be trained.

    Raises:
        UsageError: when there is none, or none any more.
    """
    if name not in VARIANTS:
        raise UsageError(f"unknown variant {name!r}; {nearest(name, VARIANTS)}")
    variant = VARIANTS[name]
    if variant.until is not None:
        raise UsageError(f"variant {name!r} can't be trained any more; commit {variant.until} is the last that could")
    return variant


@functools.cache
def configuration(variant: Variant) -> TrainConfig:
    """What `preplay train` makes of a variant's options."""
    config: TrainConfig = parse(Train, "train", ["walker-run", *variant.arguments]).config
    return config


def check_fit(config: TrainConfig, info: AgentInfo, variant: Variant, where: str) -> None:
    """Makes sure that a run is trained as a variant is.

    Raises:
        UsageError: for the first thing that differs.
    """
    if info.training.get("given"):
        raise UsageError(f"the run in {where!r} began with another agent's experience, as no variant does")
    if ":" in info.task:  # to find it, what a file names would be imported
        raise UsageError(f"the run in {where!r} trains {info.task}, which is no task of the study")
    if info.action_repeat != (usual := envs.find(info.task).action_repeat):
        raise UsageError(f"the run in {where!r} has an action repeat of {info.action_repeat}, not {usual}")
    wanted = dict(_flat(to_dict(configuration(variant))))
    for name, value in _flat(to_dict(config)):
        if name not in _FREE and value != wanted[name]:
            raise UsageError(
                f"the run in {where!r} has {name} {value}, and variant {variant.name!r} has {wanted[name]}; "
                "it belongs to another variant, or to other defaults"
            )


def fingerprint(config: TrainConfig) -> str:
    """Twelve hexadecimal digits that are the same for settings that may belong to runs of one variant."""
    fixed = sorted((name, value) for name, value in _flat(to_dict(config)) if name not in _FREE)
    return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:12]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
