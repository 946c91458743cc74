"""What the README shows works: its Python runs, its commands parse, its links lead somewhere."""

import importlib
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import preset, resume
from preplay.card import read_metrics
from preplay.cli import COMMANDS, parse
from preplay.shipped import shipped
from preplay.text import interval_text

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.S | re.M)


@pytest.mark.parametrize("code", blocks("python"))
def test_its_python_runs(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


COMMAND_LINES = [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_its_commands_exist(line, monkeypatch):
    here = SimpleNamespace(device="cpu")
    monkeypatch.setattr(resume, "read", lambda folder: SimpleNamespace(config=preset("small"), moment=here))
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        return
    program = Path(words[0]).name
    if program in ("python", "python3"):
        assert (ROOT / words[1]).exists()
        return
    assert program == "preplay"
    module, _, attribute = COMMANDS[words[1]][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            parse(command, words[1], words[2:])
    else:
        assert parse(command, words[1], words[2:])


def test_its_table_says_what_the_cards_say():
    rows = dict(re.findall(r"^\| (\S+) \| (.*) \|$", TEXT, re.M))
    for task, folder in shipped().items():
        final = [record for record in read_metrics(folder) if record["kind"] == "final"]
        said = [f"{record['mean_return']:.0f} ({interval_text(record['interval'])})" for record in final]
        assert rows[task].split(" | ")[:2] == said


def test_there_is_something_to_test():
    assert len(blocks("python")) >= 2
    assert len(COMMAND_LINES) >= 8


PAGES = [ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted(ROOT.glob("benchmarks/notes/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert targets
    for target in targets:
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], target
