"""`preplay train`."""

import contextlib
import io
import json

import pytest

from agent import Agent, Progress
from preplay.card import read_metrics
from preplay.cli import main
from preplay.progress import describe

QUICK = ["--preset", "tiny", "--steps", "300", "--random-steps", "200", "--evaluate-every", "250",
         "--evaluation-episodes", "1", "--final-episodes", "2", "--planning.samples", "16"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short run that the tests below look at: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        main(["train", "Reacher-v5", *QUICK, "--out", str(folder)])
    return folder, out.getvalue(), err.getvalue()


@pytest.fixture
def folder(run):
    return run[0]


def test_a_run_from_start_to_finish(run):
    folder, out, err = run
    assert "planner" in out
    assert "policy" in out
    assert f"preplay run Reacher-v5 --checkpoint {folder}" in out
    assert "Reacher-v5" in err
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "CARD.md", "tensorboard"} <= names
    assert any((folder / "tensorboard").iterdir())
    kinds = [record["kind"] for record in read_metrics(folder)]
    assert {"episode", "evaluation", "final"} <= set(kinds)
    assert Agent.load(folder).info.task == "Reacher-v5"


def test_its_card_says_where_it_comes_from_and_how_well_it_does(folder):
    text = (folder / "CARD.md").read_text()
    final = [record for record in read_metrics(folder) if record["kind"] == "final"]
    assert [record["planner"] for record in final] == ["mppi", "policy"]
    for record in final:
        assert f"{record['mean_return']:.1f}" in text
    for words in ("# Reacher-v5", "Commit", "300", "seed 0", "hours", "float16", "## Limits"):
        assert words in text


def test_what_was_stored_plays_as_it_was_evaluated(preplay, folder):
    final = next(record for record in read_metrics(folder) if record["kind"] == "final")
    code, out, _ = preplay("run", "Reacher-v5", "--checkpoint", folder, "--episodes", 2, "--json")
    assert code == 0
    assert json.loads(out)["returns"] == pytest.approx(final["returns"], rel=1e-5)


def test_json_is_one_object(preplay, tmp_path):
    options = [*QUICK, "--steps", "100", "--random-steps", "100", "--evaluate-every", "0", "--final-episodes", "1"]
    code, out, err = preplay("train", "Reacher-v5", *options, "--json", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["folder"] == str(tmp_path / "run")
    assert len(result["planner"]["returns"]) == len(result["policy"]["returns"]) == 1


def test_a_users_own_environment(preplay, tmp_path):
    options = ["--preset", "tiny", "--steps", "60", "--random-steps", "40", "--final-episodes", "1"]
    code, _, err = preplay("train", "tests.envs.own:Ending-v0", *options, "--out", tmp_path / "run")
    assert code == 0, err
    agent = Agent.load(tmp_path / "run")
    assert agent.info.can_terminate
    assert agent.info.decisions == 20


def test_the_line_says_what_takes_so_long():
    assert describe(Progress(0, 100, "learn", updates_due=3000)) == "learning, 3,000 updates to make"
    assert describe(Progress(50, 100, last_return=7.0)) == "return 7"
