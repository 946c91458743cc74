"""`preplay demo` and the report it writes."""

import json
import re

import imageio.v3 as imageio
import numpy as np
import pytest

from agent import Episodes
from preplay import shipped
from preplay.demo import summary
from tests.preplay.conftest import TASK, save_agent


@pytest.fixture
def agents(tmp_path, monkeypatch):
    """Untrained agents in the place of those that ship; a short fall makes the hopper quick to play."""
    folder = tmp_path / "checkpoints"
    save_agent(folder / "Hopper-v5", "Hopper-v5", 11, 3)
    save_agent(folder / TASK)
    monkeypatch.setattr(shipped, "_FOLDERS", (folder,))
    return folder


def test_demo(preplay, agents, tmp_path):
    out = tmp_path / "demo"
    options = ["--tasks", "Hopper-v5", "--episodes", 2, "--workers", 2, "--out", out]
    code, said, err = preplay("demo", *options)
    assert (code, err) == (0, "")
    for words in ("Hopper-v5", "MPPI", "CEM", "policy prior", "random actions", "95 % interval"):
        assert words in said
    assert str(out / "report.html") in said
    assert {file.name for file in out.iterdir()} == {"report.html", "returns.png", "results.json", "videos"}
    videos = sorted((out / "videos").iterdir())
    assert [file.name for file in videos] == [f"Hopper-v5-{name}.mp4" for name in ("cem", "mppi", "policy", "random")]
    assert imageio.imread(out / "returns.png").shape[2] >= 3

    results = json.loads((out / "results.json").read_text())
    rows = results["tasks"]["Hopper-v5"]
    assert list(rows) == ["mppi", "cem", "policy", "random"]
    assert all(row["seeds"] == [10000, 10001] for row in rows.values())
    frames = imageio.imread(videos[3])
    assert frames.shape == (rows["random"]["lengths"][0] + 1, 240, 320, 3)
    assert results["provenance"]["versions"]["mujoco"]

    page = (out / "report.html").read_text()
    assert page.count("<video") == 4
    assert page.count("data:video/mp4;base64,") == 4
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing outside the file is needed
    for row in rows.values():
        assert f"{row['mean_return']:.1f}" in page

    # The same episodes, told to a program.
    code, said, err = preplay("demo", *options, "--json", "--planners", "policy", "random")
    assert (code, err) == (0, "")
    again = json.loads(said)["tasks"]["Hopper-v5"]
    assert {name: row["returns"] for name, row in again.items()} == {
        name: rows[name]["returns"] for name in ("policy", "random")
    }


def test_without_a_renderer_there_are_figures_still(preplay, agents, tmp_path, no_backend):
    out = tmp_path / "demo"
    options = ["--tasks", TASK, "--planners", "random", "--episodes", 1, "--workers", 1, "--out", out]
    code, said, err = preplay("demo", *options)
    assert (code, err) == (0, "")
    assert "no videos: no OpenGL backend" in said
    assert not list((out / "videos").iterdir())
    page = (out / "report.html").read_text()
    assert "no videos: no OpenGL backend" in page
    assert "<video" not in page
    assert "as the floor, with random actions. All" in page
    assert "policy prior alone" not in page


def test_gains_are_paired_by_episode():
    control = Episodes([1, 2, 3], [10.0, 500.0, 90.0], [1] * 3, [False] * 3, [False] * 3, [1.0])
    planned = Episodes([1, 2, 3], [14.0, 505.0, 93.0], [1] * 3, [False] * 3, [False] * 3, [1.0])
    rows = summary({"mppi": planned, "policy": control, "random": control})
    gain = rows["mppi"]["over_policy"]
    assert gain["mean"] == pytest.approx(4)
    low, high = gain["interval"]
    assert 3 <= low <= high <= 5
    assert rows["policy"]["over_policy"] is None
    assert rows["random"]["over_policy"] is None


def test_a_task_whose_name_is_markup_cannot_break_the_page(tmp_path):
    from preplay.report import page

    (tmp_path / "returns.png").write_bytes(b"")
    episodes = Episodes([1], [1.0], [1], [False], [False], [1.0])
    report = {
        "tasks": {"<script>:Id": summary({"mppi": episodes})},
        "seed": 1, "episodes": 1, "workers": 1, "seconds": 1.0, "weights": {}, "provenance": {},
        "without_films": "",
    }  # fmt: skip
    assert "<script>" not in page(tmp_path, report, {})


@pytest.mark.parametrize(("least", "most"), [(3, 3), (-900, -100), (0, 0), (5e3, 8e3), (-5, 5), (20, 990)])
def test_every_return_lies_within_the_axis(least, most):
    from preplay.chart import span

    begins, ends = span(least, most)
    assert begins < min(least, 0)
    assert ends > max(most, 0)


def test_the_picture_takes_any_range():
    from preplay.chart import draw

    def rows(returns):
        return summary({"mppi": Episodes(list(range(len(returns))), returns, [1], [False], [False], [1.0])})

    tasks = {"one": rows([3.0]), "below": rows([-900.0, -100.0]), "flat": rows([0.0, 0.0]), "large": rows([5e3, 8e3])}
    assert draw(tasks, {"one": [np.zeros((24, 32, 3), np.uint8)] * 4}, {}).startswith(b"\x89PNG")
