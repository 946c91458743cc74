"""The scripts that are run by hand."""

import importlib
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__path__[0])


@pytest.mark.parametrize("script", sorted(file.stem for file in FOLDER.glob("[!_]*.py")))
def test_whatever_a_script_needs_is_there(script, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # as for `python benchmarks/SCRIPT.py`
    assert importlib.import_module(f"benchmarks.{script}").__doc__
