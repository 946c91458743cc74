"""Who may import whom."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"planners": set(), "envs": set(), "agent": {"planners"}, "preplay": {"agent", "envs", "planners"}}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert set(imported(file)) & ROOMS.keys() <= ROOMS[room] | {room}, file


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_unpickled(room):
    for file in (ROOT / room).rglob("*.py"):
        assert not set(imported(file)) & {"pickle", "dill", "joblib"}, file
        assert not re.search(r"(?<!safetensors\.)torch\.load", file.read_text()), file
