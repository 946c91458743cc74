"""Taking runs in and reading them again."""

from pathlib import Path

import pytest

from agent import describe
from benchmarks.study import variants
from benchmarks.study.curves import covered, read, take_in, without_absolute_paths
from preplay.errors import UsageError
from tests.benchmarks.folders import save_curve, save_run
from tests.preplay.test_wrong_input import assert_one_sentence

FULL = variants.find("full")


def test_there_and_back(tmp_path):
    run = save_run(tmp_path / "run")
    file = take_in(run, FULL, tmp_path / "results")
    assert file == tmp_path / "results/full/walker-run-seed0-30000.jsonl"
    (curve,) = read(tmp_path / "results")
    assert (curve.task, curve.seed, curve.variant, curve.steps) == ("walker-run", 0, "full", 30_000)
    assert curve.points == [(10_000, 30.0), (20_000, 60.0), (30_000, 90.0)]
    assert curve.prior["mean_return"] == 60.0
    assert (curve.at(20_000)["kind"], curve.at(30_000)["kind"], curve.at(15_000)) == ("evaluation", "final", None)
    assert (curve.head["commit"], curve.head["dirty"], curve.head["seconds"]) == ("abc", True, 2.0)
    assert curve.head["command"] == "preplay train walker-run --out run"
    assert file.stat().st_size < 4000
    assert str(tmp_path) not in file.read_text()


def test_what_is_left_out_stays_out(tmp_path):
    text = take_in(save_run(tmp_path / "run"), FULL, tmp_path / "results").read_text()
    assert '"episode"' not in text
    assert text.count("milliseconds") == 2


def test_curves_cover_shorter_ones(tmp_path):
    save_curve(tmp_path, "walker-run", 1, seed=1, steps=50_000)
    wanted = [(1, 50_000), (1, 20_000), (1, 100_000), (11, 50_000), (2, 50_000)]
    assert [covered(tmp_path, "full", "walker-run", *x) for x in wanted] == [True, True, False, False, False]


def test_absolute_paths_are_shortened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = f"preplay train a/b:C-v0 --out {tmp_path}/runs/x --experience=/elsewhere/y --resume '/else where'"
    expected = "preplay train a/b:C-v0 --out runs/x --experience=y --resume 'else where'"
    assert without_absolute_paths(given) == expected


def test_a_run_made_by_hand(study, tmp_path):
    run = save_run(tmp_path / "run", variant="one-update")
    code, out, err = study("add", run, "--variant", "one-update", "--results", tmp_path / "results")
    assert (code, err) == (0, "")
    assert "one-update/walker-run-seed0-30000.jsonl" in out


def test_an_unfinished_run_is_refused(study, tmp_path):
    run = save_run(tmp_path / "run", finished=False)
    assert_one_sentence(study("add", run, "--results", tmp_path / "r"), "not finished", "preplay train --resume")


def test_a_run_of_another_variant_is_refused(study, tmp_path):
    run = save_run(tmp_path / "run", variant="planner-off")
    assert_one_sentence(study("add", run, "--results", tmp_path / "r"), "planning.planner policy", "'full'")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("changes", "said"), [({"given": 900}, "another agent's experience"), ({"action_repeat": 4}, "action repeat of 4")]
)
def test_a_run_of_another_kind_is_refused(study, tmp_path, changes, said):
    """Neither is among the settings of training that a variant has."""
    run = save_run(tmp_path / "run", **changes)
    assert_one_sentence(study("add", run, "--results", tmp_path / "r"), said)
    assert not (tmp_path / "r").exists()


def test_curves_of_other_defaults_stay_apart(study, tmp_path):
    """What was taken in before a default changed says nothing of the agent with the new one."""
    results = tmp_path / "r"
    file = save_curve(results, "cheetah-run", 1)
    file.write_text(file.read_text().replace('"settings": "', '"settings": "0'))
    said = "full/cheetah-run-seed0-100000.jsonl was trained with other settings", "--results"
    assert_one_sentence(study("add", save_run(tmp_path / "run"), "--results", results), *said)
    assert_one_sentence(study("train", "--tasks", "cheetah-run", "--results", results), *said)
    # Of a run that is taken in again, the file is about to be replaced.
    assert study("add", save_run(tmp_path / "again", task="cheetah-run", steps=100_000), "--results", results)[0] == 0
    assert [curve.planned["mean_return"] for curve in read(results)] == [90.0]


def test_what_a_run_names_is_not_imported(study, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    run = save_run(tmp_path / "run", task="theirs:Id-v0")
    assert_one_sentence(study("add", run, "--results", tmp_path / "r"), "theirs:Id-v0", "no task of the study")


@pytest.mark.parametrize("damage", ["", "{", "{}\n{}\n", "[]\n"])
def test_a_damaged_curve_is_named(tmp_path, damage):
    file = save_curve(tmp_path, "walker-run", 1)
    file.write_text(damage)
    with pytest.raises(UsageError, match="walker-run-seed0-100000"):
        read(tmp_path)


def test_an_agent_that_ships_has_what_is_needed():
    """Curves are made of what training really writes."""
    folder = Path(__file__).parents[2] / "checkpoints" / "walker-walk"
    assert {"command", "commit", "steps", "seconds_with_final_evaluation"} <= describe(folder)["training"].keys()
