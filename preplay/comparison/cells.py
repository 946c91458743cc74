"""The cells of a comparison: a planner, what it imagines with, how long it may search, and how far it looks."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from planners.errors import nearest
from preplay.actors import POLICY, RANDOM, check_planner
from preplay.errors import UsageError
from preplay.simulated import LEARNED, SIMULATOR, SIMULATOR_VALUE
from preplay.text import LABELS, file_name

CONTROLS = (POLICY, RANDOM)
DEFAULT = "default"
# What a planner can imagine with, and whether a value function tells what comes after its horizon.
MODELS = {LEARNED: True, SIMULATOR: False, SIMULATOR_VALUE: True}
# A time budget is to end the search, so the iterations mustn't.
UNBOUND_ITERATIONS = 100_000
# Options of a planner that its name may bring along, and how they are written.
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "bootstrap": str,
    "elites": int,
    "execute": str,
    "interpolation": str,
    "knots": int,
    "noise_beta": float,
    "pessimism": float,
    "proposals": int,
    "replan_every": int,
}
_MOST = {"samples": 100_000, "iterations": 1000, "milliseconds": 60_000, "horizon": 1000}


@dataclass(frozen=True)
class Cell:
    """One row of a comparison.

    Attributes:
        planner: a registered planner, or one of `CONTROLS`.
        model: one of `MODELS`; None for a control, as the next two are.
        budget: `default`, samples x iterations as `512x6`, or time as `20ms`.
        horizon: decisions looked ahead; None for the agent's own.
        options: further ones of the planner, as `knots=6:noise_beta=2`; None for its own.
    """

    planner: str
    model: str | None = None
    budget: str | None = None
    horizon: int | None = None
    options: str | None = None

    @property
    def control(self) -> bool:
        """Whether it is there to be compared with."""
        return self.planner in CONTROLS

    @property
    def timed(self) -> bool:
        """Whether its budget is time. Its episodes depend on the machine's speed and can't be played again exactly."""
        return self.budget is not None and self.budget.endswith("ms")

    @property
    def terminal(self) -> bool:
        """Whether its plans promise the whole rest of an episode, and not the horizon alone."""
        return self.model is not None and MODELS[self.model]

    @property
    def name(self) -> str:
        """Its name in files and messages, unlike any other cell's."""
        horizon = None if self.horizon is None else f"h{self.horizon}"
        return " ".join(part for part in (self.planner, self.options, self.model, self.budget, horizon) if part)

    @property
    def file_name(self) -> str:
        """Its name as part of a path."""
        return file_name(self.name)

    @property
    def label(self) -> str:
        """Whose actions these are, for people."""
        return LABELS.get(self.planner, self.planner)

    @property
    def setting(self) -> str:
        """The rest of its name, for people; empty for a control."""
        if self.control:
            return ""
        return " · ".join(filter(None, (self.model, self.search)))

    @property
    def search(self) -> str:
        """How it searches, for people: budget, horizon and options."""
        budget = self.budget or ""
        words = "default budget" if budget == DEFAULT else re.sub(r"ms$", " ms", budget.replace("x", " × "))
        horizon = "" if self.horizon is None else f"horizon {self.horizon}"
        options = (self.options or "").replace("_", " ").replace("=", " ").replace(":", " · ")
        return " · ".join(filter(None, (words, horizon, options)))

    def planning(self) -> dict[str, Any]:
        """The options of `preplay.actors.cast` that make it what it is, its planner and model aside."""
        options: dict[str, Any] = {} if self.horizon is None else {"horizon": self.horizon}
        if self.timed:
            assert self.budget is not None
            options |= {"budget_ms": float(self.budget.removesuffix("ms")), "iterations": UNBOUND_ITERATIONS}
        elif self.budget not in (None, DEFAULT):
            assert self.budget is not None
            samples, _, iterations = self.budget.partition("x")
            options |= {"samples": int(samples), "iterations": int(iterations)}
        given = dict(part.split("=", 1) for part in self.options.split(":")) if self.options else {}
        return options | {name: _OPTIONS[name](text) for name, text in given.items()}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def cells(
    planners: Sequence[str], models: Sequence[str], budgets: Sequence[str], horizons: Sequence[str]
) -> list[Cell]:
    """Every combination, in order, and then the controls, once each.

    Args:
        planners: names, each perhaps with options as `mppi:knots=6:noise_beta=2`. This and all other arguments may
            hold several in one text, with commas between them.
        models: of `MODELS`.
        budgets: `default`, `512x6` or `20ms`.
        horizons: `default`, or decisions.

    Raises:
        UsageError: for a name that isn't known, or a number that makes no sense.
    """
    named = [planner(text) for text in _listed(planners, "--planners")]
    kinds = _listed(models, "--models")
    for kind in kinds:
        if kind not in MODELS:
            raise UsageError(f"unknown model {kind!r}; {nearest(kind, MODELS)}")
    limits = list(dict.fromkeys(budget(text) for text in _listed(budgets, "--budgets")))
    depths = list(dict.fromkeys(horizon(text) for text in _listed(horizons, "--horizons")))
    searching = [each for each in named if each[0] not in CONTROLS]
    every = itertools.product(searching, kinds, limits, depths)
    return [
        *(Cell(name, kind, limit, depth, options) for (name, options), kind, limit, depth in every),
        *map(Cell, CONTROLS),
    ]


def planner(text: str) -> tuple[str, str | None]:
    """A planner's name and options as the cells have them.

    Raises:
        UsageError: when the text is none.
    """
    name, *options = text.split(":")
    check_planner(name)
    given: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in _OPTIONS:
            raise UsageError(f"{text!r} has the option {key!r}; {nearest(key, _OPTIONS)}")
        try:
            read = _OPTIONS[key](value)
        except ValueError:
            raise UsageError(f"{text!r} has the option {option!r}; write it with a value, as knots=6") from None
        given[key] = f"{read:g}" if isinstance(read, float) else str(read)
    return name, ":".join(f"{key}={value}" for key, value in sorted(given.items())) or None


def budget(text: str) -> str:
    """A budget as the cells have it.

    Raises:
        UsageError: when the text is none.
    """
    if text == DEFAULT:
        return text
    if match := re.fullmatch(r"(\d+)[xX×](\d+)", text):
        samples, iterations = int(match[1]), int(match[2])
        if 1 <= samples <= _MOST["samples"] and 1 <= iterations <= _MOST["iterations"]:
            return f"{samples}x{iterations}"
        raise UsageError(
            f"the budget {text!r} must have 1 to {_MOST['samples']:,} samples and "
            f"1 to {_MOST['iterations']:,} iterations"
        )
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)ms", text):
        if 0 < float(match[1]) <= _MOST["milliseconds"]:
            return f"{float(match[1]):g}ms"
        raise UsageError(f"the budget {text!r} must lie above 0 and be at most {_MOST['milliseconds']:,} milliseconds")
    raise UsageError(
        f"{text!r} is no budget; write samples x iterations as 512x6, milliseconds a decision as 20ms, or {DEFAULT!r}"
    )


def horizon(text: str) -> int | None:
    """A horizon as the cells have it.

    Raises:
        UsageError: when the text is none.
    """
    if text == DEFAULT:
        return None
    if re.fullmatch(r"\d+", text) and 1 <= int(text) <= _MOST["horizon"]:
        return int(text)
    raise UsageError(f"{text!r} is no horizon; write decisions, 1 to {_MOST['horizon']}, or {DEFAULT!r}")


def _listed(values: Sequence[str], option: str) -> list[str]:
    """Each value once, whether they were separated by spaces or by commas."""
    parts = [part.strip() for value in values for part in value.split(",")]
    if not parts or not all(parts):
        raise UsageError(f"{option} has an empty name in {','.join(values)!r}; write them as a,b or a b")
    return list(dict.fromkeys(parts))
