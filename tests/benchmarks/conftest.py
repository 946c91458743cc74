"""Running the study's commands inside this process."""

import pytest

from benchmarks.study.__main__ import main
from tests.commands import outcome


@pytest.fixture
def study(capfd):
    """A function that runs a command line and returns exit code, standard output and standard error."""

    def run(*arguments):
        return outcome(main, arguments, capfd)

    return run
