"""`preplay experience`, and recalling experience for a new run."""

import json

import gymnasium
import numpy as np
import pytest

import envs
from agent.experience.store import Experience
from preplay.errors import UsageError
from preplay.recall import recall
from tests.agent.experience.lived import assert_same, invented, live
from tests.preplay.test_wrong_input import assert_one_sentence


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A store with three episodes of walker-walk, of which the last is running; the folder of a run holds it."""
    run = tmp_path_factory.mktemp("walked")
    with Experience(run / "experience") as store:
        env = envs.make("walker-walk")
        for seed in (5, 9):
            live(store, env, "walker-walk", seed, 10)
        live(store, env, "walker-walk", 7, 3, end=False)
    return run


def filled(folder, **options):
    with Experience(folder, **options) as store:
        for i in range(12):
            store.append(invented(5, seed=i), task="walk", seed=100 + i, action_repeat=2)
        store.append(invented(4, seed=20), task="[red]\x1b[31mrun")
    return folder


def told(preplay, *arguments):
    code, out, err = preplay("experience", *arguments, "--json")
    assert code == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def test_what_a_store_holds(preplay, walked):
    found = told(preplay, walked / "experience")
    (task,) = found.pop("tasks")
    with Experience(walked / "experience", read_only=True) as store:
        returns = [e.episode_return for e in store.episodes][:2]
        assert found == {
            "store": str(walked / "experience"),
            "identity": store.identity,
            "episodes": 3,
            "decisions": 23,
            "span": [0, 23],
            "total": 23,
            "evicted": 0,
            "segments": 1,
            "bytes": store.disk_bytes,
            "running": True,
            "dropped": [],
            "kept_aside": [],
        }
    assert task == {
        "task": "walker-walk",
        "episodes": 3,
        "decisions": 23,
        "environment_steps": 46,
        "action_repeat": [2],
        "sizes": [[24, 6]],
        "returns": {
            "mean": pytest.approx(np.mean(returns)),
            "min": min(returns),
            "max": max(returns),
            "newest": pytest.approx(np.mean(returns)),
        },
        "terminated": 0,
        "truncated": 2,
        "actors": {"random": 12, "other one": 11},
        "seeds": [5, 9],
    }
    # A run folder is as good as the store in it, and looking changes nothing.
    before = {file.name: file.read_bytes() for file in (walked / "experience").iterdir()}
    assert told(preplay, walked)["identity"] == found["identity"]
    assert {file.name: file.read_bytes() for file in (walked / "experience").iterdir()} == before


def test_for_people(preplay, tmp_path, walked):
    code, out, err = preplay("experience", walked)
    assert (code, err) == (0, "")
    for words in ("walker-walk", "random 12", "other one 11", "5 to 9", "numbers 0 to 22", "an episode is running"):
        assert words in out.replace("\n", " "), out
    code, out, err = preplay("experience", filled(tmp_path / "store"))
    assert (code, err) == (0, "")
    assert "[red]?[31mrun" in out
    assert "\x1b" not in out


def test_newest_returns_and_eviction(preplay, tmp_path):
    filled(tmp_path / "store", segment_bytes=2000)
    with Experience(tmp_path / "store", capacity=20) as store:
        store.release()
        kept = store.episodes
    found = told(preplay, tmp_path / "store")
    assert found["total"] == 64
    assert found["span"][0] == found["evicted"] > 0
    assert found["decisions"] == 64 - found["evicted"]
    assert found["segments"] > 1
    assert sum(task["episodes"] for task in found["tasks"]) >= len(kept)
    walk = next(task for task in found["tasks"] if task["task"] == "walk")
    with Experience(tmp_path / "store", read_only=True) as store:
        returns = [e.episode_return for e in store.episodes if e.task == "walk"]
    assert walk["returns"]["newest"] == pytest.approx(np.mean(returns[-10:]))


def test_verify(preplay, tmp_path):
    folder = filled(tmp_path / "store", segment_bytes=2000)
    found = told(preplay, folder, "--verify")
    assert (found["sound"], found["damage"]) == (True, [])
    code, out, err = preplay("experience", folder, "--verify")
    assert (code, err) == (0, "")
    assert out.startswith("no damage in ")
    files = sorted(folder.glob("*.segment"))
    data = bytearray(files[1].read_bytes())
    data[-20] ^= 1
    files[1].write_bytes(data)
    code, out, err = preplay("experience", folder, "--verify")
    assert code == 1
    assert out.startswith("damaged  ")
    assert files[1].name in out
    assert "piece" in out.splitlines()[-1]
    code, out, err = preplay("experience", folder, "--verify", "--json")
    assert code == 1
    found = json.loads(out)
    assert not found["sound"]
    assert len(found["damage"]) >= 1
    assert all(sentence in err for sentence in found["damage"])
    # A segment that can't even be opened is damage as well.
    files[0].write_bytes(b"x" * 10 + files[0].read_bytes()[10:])
    code, out, err = preplay("experience", folder, "--verify", "--json")
    assert code == 1
    assert any(files[0].name in sentence for sentence in json.loads(out)["damage"])
    assert_one_sentence(preplay("experience", folder), files[0].name)


def test_merge_repeats_without_doubling(preplay, tmp_path, walked):
    other, into = filled(tmp_path / "other"), tmp_path / "new" / "store"
    found = told(preplay, into, "--merge", walked, other)
    assert found == {
        "store": str(into),
        "merged": [
            {
                "store": str(walked / "experience"),
                "total": 3,
                "episodes": 3,
                "decisions": 23,
                "relabelled": 0,
                "known": 0,
            },
            {"store": str(other), "total": 13, "episodes": 13, "decisions": 64, "relabelled": 0, "known": 0},
        ],
    }
    again = told(preplay, into, "--merge", other, walked, other)
    assert [merged["known"] for merged in again["merged"]] == [13, 3]
    assert [merged["decisions"] for merged in again["merged"]] == [0, 0]
    code, out, err = preplay("experience", into, "--merge", other)
    assert (code, err) == (0, "")
    assert "copied 0 episodes, 0 decisions; 13 episodes were there already" in out
    assert told(preplay, into)["episodes"] == 16
    assert told(preplay, into, "--verify")["sound"]


def test_relabel(preplay, tmp_path, walked):
    found = told(preplay, tmp_path / "run", "--merge", walked, "--relabel", "walker_run")
    (merged,) = found["merged"]
    assert (merged["episodes"], merged["decisions"], merged["relabelled"]) == (3, 23, 23)
    code, out, _ = preplay("experience", tmp_path / "run", "--merge", walked, "--relabel", "walker-run")
    assert code == 0
    assert "copied 0 episodes" in out
    (task,) = told(preplay, tmp_path / "run")["tasks"]
    assert (task["task"], task["decisions"], task["seeds"]) == ("walker-run", 23, [5, 9])


def test_minari(preplay, tmp_path, walked, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    written = told(preplay, walked, "--export-minari", "walker/walk-v0", "--task", "walker_walk")
    assert written["dataset"] == "walker/walk-v0"
    assert (written["episodes"], written["decisions"]) == (3, 23)
    found = told(preplay, tmp_path / "store", "--import-minari", "walker/walk-v0")
    assert [(x["episodes"], x["decisions"], x["known"]) for x in found["merged"]] == [(3, 23, 0)]
    again = told(preplay, tmp_path / "store", "--import-minari", "walker/walk-v0")
    assert again["merged"][0]["known"] == 3
    with (
        Experience(walked / "experience", read_only=True) as one,
        Experience(tmp_path / "store", read_only=True) as other,
    ):
        for a, b in zip(one.episodes, other.episodes, strict=True):
            assert_same(one.read(a), other.read(b))
    assert_one_sentence(preplay("experience", walked, "--export-minari", "walker/walk-v0"), "there already")
    assert_one_sentence(preplay("experience", tmp_path / "x", "--import-minari", "walker/fly-v0"), "minari download")
    assert not (tmp_path / "x").exists()
    told(preplay, tmp_path / "named", "--import-minari", "walker/walk-v0", "--task", "mine")
    assert [task["task"] for task in told(preplay, tmp_path / "named")["tasks"]] == ["mine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere"], ["'nowhere'", "no stored experience"]),
        ([], ["DIR", "preplay experience --help"]),
        (["store", "--verify", "--merge", "other"], ["--verify and --merge", "don't go together"]),
        (["store", "--export-minari", "a-v0", "--import-minari", "b-v0"], ["don't go together"]),
        (["store", "--relabel", "walker-run"], ["--relabel needs --merge"]),
        (["store", "--task", "walk"], ["--task goes with"]),
        (["store", "--verify", "--task", "walk"], ["--task goes with"]),
        (["new", "--merge", "nowhere"], ["'nowhere'", "no stored experience"]),
        (["store", "--merge", "store"], ["into itself"]),
        (["file", "--merge", "store"], ["'file'", "no store"]),
        (["full", "--merge", "store"], ["'full'", "no store"]),
        (["new", "--merge", "store", "--relabel", "walker-rnu"], ["walker-run"]),
        (["new", "--merge", "store", "--relabel", "walker-run"], ["'store'", "without its seed", "walk"]),
        (["new", "--merge", "walked", "--relabel", "cheetah-run"], ["walker-walk", "cheetah-run", "the worlds differ"]),
        (["store", "--export-minari", "walk", "--task", "walk"], ["'walk'", "walker/walk-v0"]),
        (["store", "--export-minari", "walk-v0"], ["say which"]),
        (["store", "--export-minari", "walk-v0", "--task", "fly"], ["fly", "there are"]),
        (["store", "--merg", "x"], ["--merg", "--merge"]),
    ],
)
def test_wrong_input(preplay, tmp_path, monkeypatch, walked, options, words):
    monkeypatch.chdir(tmp_path)
    with Experience("store") as store:
        store.append(invented(4), task="walk")
        store.append(invented(4), task="other", seed=1)
    (tmp_path / "walked").symlink_to(walked)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = sorted(file for file in tmp_path.rglob("*"))
    assert_one_sentence(preplay("experience", *options), *words)
    assert sorted(file for file in tmp_path.rglob("*")) == before


def test_a_store_in_use(preplay, tmp_path):
    with Experience(filled(tmp_path / "store")):
        assert told(preplay, tmp_path / "store")["episodes"] == 13
        other = filled(tmp_path / "other")
        assert_one_sentence(preplay("experience", tmp_path / "store", "--merge", other), "another process", "store")
        assert told(preplay, tmp_path / "new", "--merge", tmp_path / "store")["merged"][0]["episodes"] == 13


def make(task):
    return envs.make(task, action_repeat=2)


def test_recall_copies_and_relabels(tmp_path, walked):
    with Experience(tmp_path / "ran") as ran:
        live(ran, make("walker-run"), "walker-run", 3, 6)
    made, told = [], {}

    def once(task):
        made.append(make(task))
        return made[-1]

    with Experience(tmp_path / "new") as new:
        sources = [walked, tmp_path / "ran", walked]
        count = recall(sources, new, "walker-run", 2, once, lambda merged: told.setdefault(merged.store, merged))
        assert count == len(new) == 29
        assert {e.task for e in new.episodes} == {"walker-run"}
        assert len(made) == 1
        first, second = told[str(walked / "experience")], told[str(tmp_path / "ran")]
        assert (first.decisions, first.relabelled) == (23, 23)
        assert (second.decisions, second.relabelled) == (6, 0)
        assert recall(sources, new, "walker-run", 2, once) == 0
        assert len(made) == 1


def test_recall_refuses_before_it_copies(tmp_path, walked):
    with Experience(tmp_path / "unseeded") as store:
        store.append(invented(4, 24, 6), task="walker-stand", action_repeat=2)
    with Experience(tmp_path / "new") as new:
        with pytest.raises(UsageError, match=r"unseeded.*without its seed") as error:
            recall([walked, tmp_path / "unseeded"], new, "walker-run", 2, make)
        assert "walker-stand" in str(error.value)
        with pytest.raises(UsageError, match="decisions of 2 environment steps, where walker-walk is to have 4"):
            recall([walked], new, "walker-walk", 4, make)
        with pytest.raises(UsageError, match=r"experience'.*cheetah-run.*worlds differ"):
            recall([walked], new, "cheetah-run", 2, make)
        with pytest.raises(UsageError, match="no stored experience"):
            recall([tmp_path / "nowhere"], new, "walker-walk", 2, make)
        assert new.total == 0
        assert isinstance(make("walker-walk"), gymnasium.Env)
