"""The report, from curves that were made up."""

import json
from pathlib import Path

import pytest

from benchmarks.study import published
from benchmarks.study.curves import read
from benchmarks.study.figures import average, lines_of_seeds
from benchmarks.study.summary import TDMPC2, summary
from benchmarks.study.tasks import HARD_8
from preplay.errors import UsageError
from tests.benchmarks.folders import save_curve
from tests.preplay.test_wrong_input import assert_one_sentence

REFERENCE = Path(__file__).parents[2] / "benchmarks/reference/hard8.csv"


@pytest.fixture
def report(study, tmp_path):
    """A function that makes the report and returns its content and its text."""

    def make(*arguments):
        code, out, err = study("report", "--results", tmp_path, "--reference", REFERENCE, *arguments)
        assert (code, err) == (0, "")
        assert "report.md" in out
        return json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.md").read_text()

    return make


def comparison(content, name, steps=100_000):
    return next(row for row in content["comparisons"] if (row["name"], row["steps"]) == (name, steps))


def test_the_published_file_holds_every_method_on_every_task():
    theirs = published.read(REFERENCE)
    for method in published.METHODS:
        assert set(published.at(theirs, method.key, 100_000)) == set(HARD_8), method.name
    assert published.at(theirs, "tdmpc2", 100_000)["walker-run"] == 723.0
    assert all(point.step <= 200_000 for tasks in theirs.values() for points in tasks.values() for point in points)


@pytest.mark.parametrize("text", ["a,b\n", "algo,task,step,return,seeds,source\nnobody,walker-run,1,2,3,x\n"])
def test_a_damaged_file_of_published_returns(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UsageError, match="damaged"):
        published.read(tmp_path / "x.csv")


def test_a_missing_file_of_published_returns(study, tmp_path):
    save_curve(tmp_path, "walker-run", 1)
    assert_one_sentence(study("report", "--results", tmp_path, "--reference", "nowhere.csv"), "nowhere.csv")


def test_one_run_makes_a_report(report, tmp_path):
    save_curve(tmp_path, "walker-run", 730, prior=500)
    content, text = report()
    assert content["missing"] == [task for task in HARD_8 if task != "walker-run"]
    assert "1 of the 8 tasks of hard-8 have been trained so far; not yet: acrobot-swingup" in text
    assert "Every task has one training seed, so there is no interval over seeds." in text
    row = content["ours"]["walker-run"]
    assert (row["interval"], row["interval_over"]) == ([725, 735], "evaluation episodes")
    assert content["mean"] == {"value": 730.0, "interval": None}
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "ablations.png").exists()
    assert "No ablation has been trained yet." in text


def test_wins_losses_and_the_best(report, tmp_path):
    save_curve(tmp_path, "walker-run", 730)  # TD-MPC2 has 723, BMPC 751.2
    save_curve(tmp_path, "cheetah-run", 510)  # 519.1 and 506
    content, text = report()
    counts = {row["key"]: (row["wins"], row["losses"], row["tasks"]) for row in content["methods"]}
    assert counts["tdmpc2"] == (1, 1, 2)
    assert counts["bmpc"] == (1, 1, 2)
    assert counts["sac"] == (2, 0, 2)
    assert content["common"] == ["cheetah-run", "walker-run"]
    assert content["mean_over_common"] == 620
    tdmpc2 = next(row for row in content["methods"] if row["key"] == "tdmpc2")
    assert tdmpc2["mean"] == pytest.approx((723.0 + 519.1) / 2)
    assert "**751**" in text
    assert "mean of the 2 that all have" in text


def test_all_tasks_with_two_seeds(report, tmp_path):
    for task in HARD_8:
        for seed in (0, 1):
            save_curve(tmp_path, task, 900 + 50 * seed, seed)
    content, text = report()
    assert content["missing"] == []
    assert "mean of all 8" in text
    assert content["mean"]["value"] == content["iqm"]["value"] == 925
    low, high = content["mean"]["interval"]
    assert 900 < low < 925 < high < 950
    assert content["ours"]["hopper-hop"]["returns"] == {"0": 900, "1": 950}


def test_controls_pair_task_and_seed(report, tmp_path):
    save_curve(tmp_path, "walker-run", 700, prior=600)
    save_curve(tmp_path, "walker-run", 800, seed=1, prior=850)
    save_curve(tmp_path, "cheetah-run", 500, prior=100)
    save_curve(tmp_path, "walker-run", 650, variant="planner-off", prior=650)
    content, _ = report()
    prior = comparison(content, "policy prior at evaluation")
    assert [pair["difference"] for pair in prior["pairs"]] == [400, 100, -50]
    assert (prior["better"], prior["worse"], prior["difference"]) == (2, 1, (400 + 25) / 2)
    off = comparison(content, "planner-off")
    assert (off["tasks"], off["full"], off["other"], off["interval"]) == (["walker-run"], 700, 650, None)
    tdmpc2 = comparison(content, TDMPC2)
    assert tdmpc2["difference"] == pytest.approx(((500 - 519.1) + (750 - 723)) / 2)


def test_ablations_are_compared_at_their_own_steps(report, tmp_path):
    save_curve(tmp_path, "walker-run", 700)
    save_curve(tmp_path, "walker-run", 300, variant="single-step-returns", steps=50_000)
    for unpaired in ("single-step-returns", "white-noise"):
        save_curve(tmp_path, "hopper-hop", 10, variant=unpaired, steps=50_000)
    content, text = report()
    row = comparison(content, "single-step-returns", 50_000)
    pair = {"task": "walker-run", "seed": 0, "episodes": 3, "full": 350, "other": 300, "difference": 50}
    assert row["pairs"] == [pair]
    alone = "single-step-returns hopper-hop seed 0 at 50,000; white-noise hopper-hop seed 0 at 50,000."
    assert f"no run to pair with: {alone}" in text
    assert "| single-step-returns | 50,000 | 1 | 1 | 350 | 300 |" in text
    assert "| white-noise | 50,000 |" not in text  # without a pair there is nothing to put in a row
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")


def test_pairs_are_of_the_episodes_that_both_have(report, tmp_path):
    """The full agent passed there and had three episodes; the variant's other seven are of other seeds."""
    save_curve(tmp_path, "walker-run", 700)
    ended = save_curve(tmp_path, "walker-run", 300, variant="one-update", steps=50_000)
    lines = [json.loads(line) for line in ended.read_text().splitlines()]
    lines[-2]["returns"] = [300, 310, 320, *[0] * 7]
    ended.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content, text = report()
    (pair,) = comparison(content, "one-update", 50_000)["pairs"]
    assert (pair["episodes"], pair["full"], pair["other"]) == (3, 350, 310)
    assert "evaluated on 3 episodes, the first of those that they are evaluated on at their end, 10." in text


def test_what_was_taken_out_is_still_compared(report, tmp_path):
    save_curve(tmp_path, "walker-run", 700, steps=50_000)
    save_curve(tmp_path, "walker-run", 300, variant="residual-encoder", steps=50_000)
    content, text = report()
    assert comparison(content, "residual-encoder", 50_000)["difference"] == 400
    assert "What would a residual encoder add? It was taken out; commit 44122b8 is the last that trains it." in text


def test_names_that_no_variant_has_are_told(report, tmp_path):
    save_curve(tmp_path, "walker-run", 700)
    save_curve(tmp_path, "walker-run", 300, variant="long-gone")
    assert "no variant has that name: long-gone." in report()[1]


def test_a_shorter_run_does_not_end_the_mean(tmp_path):
    save_curve(tmp_path, "walker-run", 700)
    save_curve(tmp_path, "walker-run", 400, seed=1, steps=50_000)
    (line,) = lines_of_seeds(read(tmp_path), "walker-run", 100_000)
    assert line[-1] == (100_000, 700)
    assert len(lines_of_seeds(read(tmp_path), "walker-run", 50_000)) == 2


def test_a_run_that_ended_there_comes_before_one_that_passed(tmp_path):
    save_curve(tmp_path, "walker-run", 700)
    save_curve(tmp_path, "walker-run", 400, steps=50_000)
    content = summary(read(tmp_path), published.read(REFERENCE), 50_000)
    assert (content["ours"]["walker-run"]["mean"], content["ours"]["walker-run"]["episodes"]) == (400, 10)


def test_nothing_at_those_steps_yet(report, tmp_path):
    save_curve(tmp_path, "walker-run", 300, steps=50_000)
    content, text = report()
    assert content["ours"] == {}
    assert "0 of the 8 tasks" in text
    assert report("--steps", "50000")[0]["ours"]["walker-run"]["mean"] == 300


def test_the_same_curves_make_the_same_report(report, tmp_path):
    save_curve(tmp_path, "walker-run", 300)
    report()
    files = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    report()
    assert {file: file.read_bytes() for file in files} == files


def test_the_mean_of_lines_is_over_the_steps_that_all_have():
    assert average([[(0, 1.0), (5, 2.0), (10, 3.0)], [(0, 3.0), (10, 5.0)]]) == [(0, 2.0), (10, 4.0)]
    assert average([]) == []
