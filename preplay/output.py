"""Standard output, where programs read the one JSON object that `--json` promises."""

import contextlib
import json
import sys
from typing import Any


def nothing_but_the_object() -> contextlib.AbstractContextManager[Any]:
    """What others print meanwhile, a user's environment for one, goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def print_object(values: dict[str, Any]) -> None:
    """Prints one JSON object on standard output, also within `nothing_but_the_object`."""
    print(json.dumps(values), file=sys.__stdout__, flush=True)
