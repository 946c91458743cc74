"""Running the study's commands inside this process."""

import pytest

from benchmarks.study.__main__ import main


@pytest.fixture
def study(capfd):
    """A function that runs a command line and returns exit code, standard output and standard error."""

    def run(*arguments):
        try:
            main([str(x) for x in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run
