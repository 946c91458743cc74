"""`preplay compare`: what is asked for, what is kept, and what is shown."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import pytest

from agent import Agent, AgentInfo, Episodes, preset
from preplay import pool
from preplay.comparison import results, store
from preplay.comparison.cells import Cell, cells
from preplay.comparison.page import filmed, page
from preplay.comparison.picture import draw, limits
from preplay.errors import UsageError
from tests.preplay.conftest import TASK, save_agent
from tests.preplay.test_wrong_input import assert_one_sentence

OWN = "tests.envs.own:Own-v0"
SMALL = ["--planners", "mppi,cem", "--budgets", "8x1", "--workers", "1"]


@pytest.fixture
def here(monkeypatch):
    """Episodes are played in this process, which is quicker to begin with."""
    played = []

    def play_jobs(jobs, workers=None):
        for job in jobs:
            played.append((job.cast.planner, job.cast.model, job.seed))
            yield pool.play_job(job)

    monkeypatch.setattr("preplay.compare.play_jobs", play_jobs)
    return played


@pytest.fixture
def own(tmp_path):
    """An agent of a task of ten decisions, which can't be drawn."""
    return save_agent(tmp_path / "agent", OWN, 7)


def other_agent(folder):
    """One with other weights."""
    info = AgentInfo(OWN, 2, 25, False)
    Agent(replace(preset("tiny"), device="cpu"), 7, 2, info, "cpu", seed=1).save(folder, half=True)
    return folder


def lines(folder):
    return [json.loads(text) for text in (folder / "episodes.jsonl").read_text().splitlines()]


def outcome(folder):
    """All that has been recorded, but for the times."""
    return {(str(x["cell"]), x["seed"]): x | {"milliseconds": None} for x in lines(folder)}


def test_compare(preplay, tmp_path):
    save_agent(tmp_path / "agent")
    out = tmp_path / "out"
    options = [
        TASK,
        "--checkpoint",
        tmp_path / "agent",
        "--planners",
        "mppi",
        "gradient",
        "--out",
        out,
        "--episodes",
        2,
    ]
    options += ["--models", "learned,simulator", "--budgets", "8x1,1ms", "--horizons", "2", "--workers", 2]
    code, said, err = preplay("compare", *options, "--json")
    assert code == 0, err
    found = json.loads(said)
    names = {row["name"] for row in found["rows"]}
    planned = {f"mppi {model} {budget} h2" for model in ("learned", "simulator") for budget in ("8x1", "1ms")}
    assert names == planned | {"gradient learned 8x1 h2", "gradient learned 1ms h2", "policy", "random"}
    assert set(found["left_out"]) == {"gradient simulator 8x1 h2", "gradient simulator 1ms h2"}
    assert "gradient" in found["left_out"]["gradient simulator 8x1 h2"]
    rows = {row["name"]: row for row in found["rows"]}
    assert all(row["seeds"] == [10_000, 10_001] and row["lengths"] == [25, 25] for row in rows.values())
    assert [row["mean_return"] for row in found["rows"]] == sorted(
        (r["mean_return"] for r in found["rows"]), reverse=True
    )
    assert rows["mppi learned 8x1 h2"]["misses"] is None
    assert 0 <= rows["mppi learned 1ms h2"]["misses"] <= 1
    assert rows["mppi learned 1ms h2"]["candidates"] > 0
    # The simulator keeps what it promises, up to where its plan is replaced by a better one.
    kept = rows["mppi simulator 8x1 h2"]["promise"]
    assert kept["decisions"] == 2 * 24
    assert abs(kept["optimism"]) < 0.5
    assert kept["correlation"] > 0.5
    assert rows["policy"]["promise"] is None
    assert found["settings"]["sittings"][0]["workers"] == 2

    text = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing outside the file is needed
    assert not re.search(r"https?://|url\(|@import", text)
    assert text.count("data:image/png;base64,") == 1
    assert text.count("<video") == 8
    for row in rows.values():
        assert all(digest in text for digest in row["digests"])
    assert "doesn&#x27;t bind" in text
    assert "gradient simulator 8x1 h2" in text
    assert imageio.imread(out / "videos" / "mppi-learned-8x1-h2.mp4").shape == (26, 240, 320, 3)

    # The same command again plays nothing, and says the same to people.
    (out / "report.html").unlink()
    before = (out / "episodes.jsonl").read_bytes()
    code, said, err = preplay("compare", *options)
    assert (code, err) == (0, "")
    assert (out / "episodes.jsonl").read_bytes() == before
    assert (out / "report.html").exists()
    assert all(
        len(text) <= 100
        for text in said.splitlines()
        if not text.startswith(("left out", "report", "episodes", "videos"))
    )
    for words in ("MPPI", "policy prior", "random actions", "simulator", "left out: gradient simulator 8x1 h2"):
        assert words in said
    assert len(json.loads((out / "comparison.json").read_text())["sittings"]) == 1

    # Another machine, or the same one, plays the same episodes.
    code, said, err = preplay("verify", out, "--all", "--json", "--workers", 1)
    assert code == 0, err
    told = json.loads(said)
    assert told["equal"]
    assert (len(told["episodes"]), told["timed"], told["recorded"]) == (10, 6, 16)


def test_what_is_interrupted_goes_on(preplay, own, here, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = [OWN, "--checkpoint", own, *SMALL, "--episodes", 2]
    assert preplay("compare", *options, "--out", whole)[0] == 0
    assert len(here) == 8
    assert here[:4] == [("mppi", "learned", 10_000), ("cem", "learned", 10_000)] + [
        (name, "learned", 10_000) for name in ("policy", "random")
    ]
    assert (whole / "report.html").read_text().count("no videos: Own is no MuJoCo environment") == 1

    shutil.copytree(whole, cut)
    data = (cut / "episodes.jsonl").read_bytes()
    third = [i for i, byte in enumerate(data) if byte == ord("\n")][2]
    (cut / "episodes.jsonl").write_bytes(data[: third + 200])  # inside the fourth line
    here.clear()
    code, said, err = preplay("compare", *options, "--out", cut, "--json")
    assert (code, err) == (0, "")
    assert len(here) == 5
    assert outcome(cut) == outcome(whole)
    again = json.loads(said)
    first = json.loads((whole / "results.json").read_text())
    for key in ("returns", "digests", "interval", "promise", "smoothness", "saturated", "candidates"):
        assert {r["name"]: r[key] for r in again["rows"]} == {r["name"]: r[key] for r in first["rows"]}
    assert len(again["settings"]["sittings"]) == 2


def test_more_can_be_added_and_nothing_is_lost(preplay, own, here, tmp_path):
    out = tmp_path / "out"
    common = [OWN, "--checkpoint", own, "--workers", 1, "--out", out, "--json"]
    assert preplay("compare", *common, "--planners", "mppi", "--budgets", "8x1", "--episodes", 1)[0] == 0
    here.clear()
    # Another planner and budget: only these are played, and what was there is shown beside them.
    code, said, _ = preplay("compare", *common, "--planners", "cem", "--budgets", "8x1", "4x2", "--episodes", 1)
    assert code == 0
    assert here == [("cem", "learned", 10_000)] * 2
    found = json.loads(said)
    names = {row["name"] for row in found["rows"]}
    assert names == {"mppi learned 8x1", "cem learned 8x1", "cem learned 4x2", "policy", "random"}
    # More episodes of some: the others aren't complete, and aren't compared.
    here.clear()
    code, said, _ = preplay("compare", *common, "--planners", "cem", "--budgets", "8x1", "--episodes", 2)
    assert sorted(here) == [(name, "learned", 10_001) for name in ("cem", "policy", "random")]
    found = json.loads(said)
    assert {row["name"] for row in found["rows"]} == {"cem learned 8x1", "policy", "random"}
    assert found["unfinished"] == {"mppi learned 8x1": 1, "cem learned 4x2": 1}
    assert "mppi learned 8x1, of which 1 of 2" in (out / "report.html").read_text()
    # Fewer: the first ones count, none is lost.
    here.clear()
    count = len(lines(out))
    found = json.loads(preplay("compare", *common, "--planners", "mppi", "--budgets", "8x1", "--episodes", 1)[1])
    assert len(found["rows"]) == 5
    assert here == []
    assert len(lines(out)) == count == 8


def test_a_command_that_is_killed_goes_on(own, tmp_path):
    script = Path(sys.executable).with_name("preplay")
    out, root = tmp_path / "out", Path(__file__).parents[2]
    # Many short episodes, so that the kill falls between the first and the last.
    command = [script, "compare", OWN, "--checkpoint", own, *SMALL, "--episodes", "2000", "--out", out]
    running = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end and (not (out / "episodes.jsonl").exists() or len(lines_of(out)) < 9):
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(30) == -signal.SIGKILL
    kept = lines_of(out)
    assert 9 <= len(kept) < 8000
    finished = subprocess.run(
        [*command[:-3], "2", "--out", out, "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert lines_of(out)[: len(kept)] == kept
    assert {len(row["returns"]) for row in json.loads(finished.stdout)["rows"]} == {2}


def lines_of(folder):
    return (folder / "episodes.jsonl").read_bytes().split(b"\n")[:-1]


def test_a_worker_that_is_killed(preplay, own, tmp_path, monkeypatch):
    def play_jobs(jobs, workers=None):
        yield pool.play_job(jobs[0])
        raise UsageError("a process that played episodes was killed")

    monkeypatch.setattr("preplay.compare.play_jobs", play_jobs)
    code, _, err = preplay("compare", OWN, "--checkpoint", own, *SMALL, "--out", tmp_path / "out")
    assert code == 2
    assert "1 of 40 episodes were played and are kept" in err
    assert "was killed" in err
    assert "Traceback" not in err
    assert len(lines(tmp_path / "out")) == 1


def test_the_pool_hands_on_what_had_ended_and_says_that_a_worker_was_killed(own, monkeypatch):
    from preplay.actors import cast

    good = pool.Job(cast(OWN, "random", own), 1)
    monkeypatch.setattr(pool, "play_job", _die)
    with pytest.raises(UsageError, match="fewer --workers"):
        list(pool.play_jobs([good], 1))


def _die(job):
    os._exit(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "5"], ["seed 10000, not 5"]),
        (["--action-repeat", "4"], ["action repeat 2, not 4"]),
        (["--checkpoint", "other"], ["another agent"]),
    ],
)
def test_other_settings_are_refused(preplay, own, here, tmp_path, change, words):
    out = tmp_path / "out"
    options = ["compare", OWN, "--checkpoint", own, *SMALL, "--out", out]
    assert preplay(*options, "--planners", "policy", "--episodes", 1)[0] == 0
    before = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    other = other_agent(tmp_path / "other")
    change = [other if word == "other" else word for word in change]
    assert_one_sentence(preplay(*options, *change), *words, "--out")
    assert before == {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}


def test_other_versions_are_refused(preplay, own, here, tmp_path):
    out = tmp_path / "out"
    options = ["compare", OWN, "--checkpoint", own, "--planners", "policy", "--episodes", 1, "--out", out]
    assert preplay(*options)[0] == 0
    settings = json.loads((out / "comparison.json").read_text())
    settings["fixed"]["versions"]["mujoco"] = "1.50"
    (out / "comparison.json").write_text(json.dumps(settings))
    assert_one_sentence(preplay(*options), "mujoco 1.50, not 3.")


def test_two_commands_at_once(preplay, own, here, tmp_path):
    out = tmp_path / "out"
    options = ["compare", OWN, "--checkpoint", own, "--planners", "policy", "--episodes", 1, "--out", out]
    assert preplay(*options)[0] == 0
    with store.Journal(out):
        assert_one_sentence(preplay(*options), "another preplay compare")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--planners", "mppi,magic"], ["'magic'", "mppi"]),
        (["--planners", "mppi,,cem"], ["--planners", "empty"]),
        (["--models", "learned,simulater"], ["'simulater'", "'simulator'"]),
        (["--budgets", "fast"], ["'fast'", "512x6", "20ms"]),
        (["--budgets", "0x3"], ["'0x3'", "1 to 100,000"]),
        (["--budgets", "0ms"], ["'0ms'"]),
        (["--horizons", "3,far"], ["'far'", "1 to 1000"]),
        (["--horizons", "0"], ["'0'"]),
        (["--episodes", "0"], ["at least 1"]),
        (["--workers", "0"], ["at least 1"]),
        (["--action-repeat", "0"], ["--action-repeat is 0"]),
        (["--seed", "-1"], ["--seed"]),
        (["--planners", "gradient", "--models", "simulator"], ["gradient simulator default", "gradient"]),
        (["--checkpoint", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_input(preplay, own, tmp_path, options, words):
    out = tmp_path / "out"
    arguments = ["compare", OWN, "--out", out, *([] if "--checkpoint" in options else ["--checkpoint", own])]
    assert_one_sentence(preplay(*arguments, *options), *words)
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(preplay, own, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text("mine")
    assert_one_sentence(preplay("compare", OWN, "--checkpoint", own, "--out", out), "no comparison")
    assert [file.name for file in out.iterdir()] == ["results.json"]
    (tmp_path / "file").write_text("")
    assert_one_sentence(preplay("compare", OWN, "--checkpoint", own, "--out", tmp_path / "file"), "no folder")


def test_lists_with_commas_and_with_spaces():
    commas = cells(["mppi,cem"], ["learned,simulator"], ["512x6,20ms"], ["3,5"])
    spaces = cells(["mppi", "cem"], ["learned", "simulator"], ["512x6", "20ms"], ["3", "5"])
    assert commas == spaces == cells(["mppi, cem"], ["learned", "simulator"], ["512X6", "20.0ms"], ["3", "5,3"])
    assert len(commas) == 2 * 2 * 2 * 2 + 2
    assert commas[-2:] == [Cell("policy"), Cell("random")]
    assert cells(["policy", "random,cem"], ["learned"], ["default"], ["default"])[0] == Cell(
        "cem", "learned", "default"
    )
    assert len({cell.file_name for cell in commas}) == len(commas)


def test_a_planner_brings_options_along():
    made = cells(["mppi:noise_beta=2.0:knots=3,mppi"], ["learned"], ["default"], ["default"])
    assert [(cell.planner, cell.options) for cell in made[:2]] == [("mppi", "knots=3:noise_beta=2"), ("mppi", None)]
    assert made[0].planning() == {"knots": 3, "noise_beta": 2.0}
    assert made[0].name != made[1].name
    assert "knots 3" in made[0].search
    learned = cells(["mppi:bootstrap=last:pessimism=0.5"], ["learned"], ["default"], ["default"])[0]
    assert learned.planning() == {"bootstrap": "last", "pessimism": 0.5}
    (odd,) = cells(["mppi:interpolation=a=b"], ["learned"], ["default"], ["default"])[:1]
    assert odd.planning() == {"interpolation": "a=b"}  # which the planner refuses
    for text, words in {
        "mppi:knotz=3": "did you mean 'knots'",
        "mppi:knots": "with a value",
        "mppi:knots=many": "with a value",
        "mpi:knots=3": "unknown planner 'mpi'",
    }.items():
        with pytest.raises(UsageError, match=words):
            cells([text], ["learned"], ["default"], ["default"])


def test_budgets_become_options():
    assert Cell("cem", "learned", "512x6", 5).planning() == {"samples": 512, "iterations": 6, "horizon": 5}
    assert Cell("cem", "learned", "default").planning() == {}
    timed = Cell("cem", "learned", "2.5ms").planning()
    assert timed["budget_ms"] == 2.5
    assert timed["iterations"] > 10_000


def test_an_episode_survives_being_written_and_read():
    rewards, predicted = [0.1, 1 / 3, -2e-300], [1.5, math.nan, 0.1]
    episode = Episodes([7], [0.1 + 1 / 3], [3], [True], [False], [1.23456, 2.0, 3.0], rewards, predicted, [4, 0, 4],
                       [1], [0.25], [0.5], ["ab"])  # fmt: skip
    cell, again = store.parse(store.line(Cell("cem", "learned", "4x1", 2), episode))
    assert cell == Cell("cem", "learned", "4x1", 2)
    assert (again.rewards, again.returns, again.terminated, again.misses) == (rewards, [0.1 + 1 / 3], [True], [1])
    assert again.predicted[0] == 1.5
    assert math.isnan(again.predicted[1])
    assert again.milliseconds[0] == 1.2346


@pytest.mark.parametrize(
    "change",
    [
        {"length": 4},
        {"rewards": "x"},
        {"seed": 1.5},
        {"cell": {"planner": 3}},
        {"cell": {"planner": "mppi", "budget": ["x"]}},
        {"cell": {"planner": "mppi", "horizon": "far"}},
        {"digest": None},
    ],
)
def test_a_line_that_is_no_episode(change):
    episode = Episodes([7], [1.0], [1], [True], [False], [1.0], [1.0], [1.0], [1], [0], [0.0], [0.0], ["ab"])
    values = json.loads(store.line(Cell("policy"), episode)) | change
    with pytest.raises(ValueError):  # noqa: PT011
        store.parse(json.dumps(values))


def invented(spec, seeds=range(4), task="a-task"):
    """A summary of invented returns and times, by cell."""
    played = {}
    for cell, (milliseconds, mean) in spec.items():
        for seed in seeds:
            value = mean + 5.0 * math.sin(seed + len(cell.name))
            played[cell, seed] = Episodes([seed], [value], [2], [False], [False], [milliseconds] * 2, [value, 0.0],
                                          [value, 0.0], [9, 9], [0], [0.1], [0.2], [f"{cell.name}-{seed}"])  # fmt: skip
    settings = {
        "fixed": {"task": task, "planning": None}, "checkpoint": None, "episodes": len(seeds),
        "sittings": [{"workers": 2, "commit": "abc"}],
    }  # fmt: skip
    return results.summarise(settings, played, list(spec), seeds, {}) | {"without_films": ""}


MANY = {Cell(name, model, f"{n}x1"): (n / 10.0, 100.0 + n) for name in ("mppi", "cem", "icem")
        for model in ("learned", "simulator") for n in (10, 20, 40, 80)}  # fmt: skip
CONTROLS = {Cell("policy"): (0.2, 90.0), Cell("random"): (0.0, 3.0)}


def test_many_cells_are_shown_in_part():
    found = invented(MANY | CONTROLS)
    assert len(found["rows"]) == 26
    names = found["matrix"]["names"]
    assert len(names) == 20
    assert {"policy", "random"} <= set(names)
    assert names[0] == found["rows"][0]["name"]
    shown = [row["name"] for row in filmed(found["rows"])]
    assert len(shown) == 3 * 2 + 2
    assert shown[0] == names[0]
    assert all("80x1" in name for name in shown if name not in ("policy", "random"))
    assert page(found, b"", Path("nowhere")).count('<td class="name">') == 26 + 20


@pytest.mark.parametrize(
    "spec", [CONTROLS, {Cell("cem", "learned", "default"): (3.0, 0.0)} | CONTROLS, MANY | CONTROLS]
)
def test_the_picture_takes_any_cells(spec):
    found = invented(spec)
    assert draw("a-task", found["rows"], found["front"]).startswith(b"\x89PNG")


def test_the_axis_shows_all_cells_and_the_controls_that_are_near():
    def row(value, low=None, high=None):
        return {"mean_return": value, "interval": [low, high]}

    low, high = limits([row(900, 880, 930), row(950)], [row(870), row(20)])
    assert 850 < low < 870
    assert 950 < high < 970
    low, high = limits([], [row(5), row(5)])
    assert low < 5 < high


def test_a_task_whose_name_is_markup_cannot_break_the_page():
    found = invented(CONTROLS, task="<script>:Id")
    found["left_out"] = {"<script>": "<script>"}
    assert "<script>" not in page(found, b"", Path("nowhere"))
