"""What can be wrong with a planner's name or knobs."""

import difflib
from collections.abc import Iterable


class PlannerError(ValueError):
    """A planner was asked for that does not exist, or with a knob or shape that makes no sense."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown word: the nearest known one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
