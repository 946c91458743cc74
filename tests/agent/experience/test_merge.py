"""Stores are merged completely, and nothing comes twice."""

import shutil

import pytest

from agent.errors import ExperienceError
from agent.experience.merge import Merged, merge
from agent.experience.store import Experience
from tests.agent.experience.lived import assert_same, facts, invented, live
from tests.agent.toy import Point


def filled(folder, *, seed=0):
    store = Experience(folder)
    store.append(invented(7, seed=seed), task="one", seed=3, action_repeat=2, extra={"note": [1, "é", None]})
    store.append(invented(4, seed=seed + 1, ends="terminated"), task="two", action_repeat=4)
    store.append(invented(1, 5, 1, seed + 2, ""), task="one", seed=0)
    return store


def test_everything_is_copied_bit_for_bit(tmp_path):
    with filled(tmp_path / "a") as a, filled(tmp_path / "b", seed=10) as b:
        before = facts(a)
        assert merge(a, b) == 12
        assert facts(a) == before + facts(b)
        for one, other in zip(a.episodes[3:], b.episodes, strict=True):
            assert_same(a.read(one), b.read(other))
    with Experience(tmp_path / "a", read_only=True) as a:
        assert a.total == 24
        assert a.verify() == []
        assert [e.extra.get("note") for e in a.episodes] == [[1, "é", None], None, None] * 2


def test_repeating_a_merge_copies_nothing(tmp_path):
    with filled(tmp_path / "a") as a, filled(tmp_path / "b", seed=10) as b:
        told = []
        merge(a, b, on_progress=lambda merged: told.append((merged.done, merged.episodes, merged.known)))
        assert told == [(1, 1, 0), (2, 2, 0), (3, 3, 0), (3, 3, 0)]
        before = facts(a)
        assert merge(a, b) == 0
        assert facts(a) == before
        b.append(invented(5, seed=99), task="one")
        assert merge(a, b) == 5
        assert len(a.episodes) == 7


def test_an_interrupted_merge_goes_on_where_it_was(tmp_path):
    class Stop(Exception):
        pass

    def stop_at_two(merged: Merged):
        if merged.done == 2:
            raise Stop

    with filled(tmp_path / "b", seed=10) as b:
        with Experience(tmp_path / "a") as a, pytest.raises(Stop):
            merge(a, b, on_progress=stop_at_two)
        with Experience(tmp_path / "a") as a:
            assert len(a.episodes) == 2
            assert merge(a, b) == 1
            assert facts(a) == facts(b)


def test_by_whatever_way_an_episode_comes_it_comes_once(tmp_path):
    with filled(tmp_path / "a") as a, Experience(tmp_path / "b") as b, Experience(tmp_path / "c") as c:
        assert merge(b, a) == 12
        assert merge(c, b) == 12
        assert merge(c, a) == 0
        assert merge(a, c) == 0
        assert merge(a, b) == 0
        assert facts(a) == facts(b) == facts(c)


def test_copies_of_a_store_that_went_on_differently(tmp_path):
    filled(tmp_path / "a").close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Experience(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        a.append(invented(6, seed=20), task="one")
        b.append(invented(6, seed=21), task="one")
        assert a.identity == b.identity
        assert a.episodes[-1].number == b.episodes[-1].number
        assert merge(a, b) == 6
        assert len(a.episodes) == 5
        assert_same(a.read(a.episodes[-1]), b.read(b.episodes[-1]))
        assert merge(a, b) == 0


def test_a_running_episode_is_cut_off_and_comes_once(tmp_path):
    with Experience(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        live(b, Point(), "point", 5, 8, end=False)
        assert b.running
        assert merge(a, b) == 8
        (episode,) = a.episodes
        assert (episode.decisions, episode.terminated, episode.truncated, episode.running) == (8, False, False, False)
        assert episode.actors == {"random": 4, "other one": 4}
        b.add([0.5], 1.0, [0.0, 0.0], False, True)
        assert merge(a, b) == 0
        with Experience(tmp_path / "c") as c:
            assert merge(c, b) == 9


def test_a_reader_sees_a_running_episode_the_same_way(tmp_path):
    with Experience(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        live(b, Point(), "point", 5, 8, end=False)
        with Experience(tmp_path / "b", read_only=True) as reader:
            assert merge(a, reader) == 8
            b.add([0.5], 1.0, [0.0, 0.0], False, True)
            reader.refresh()
            assert merge(a, reader) == 0


def test_a_store_into_itself(tmp_path):
    with filled(tmp_path / "a") as a:
        (tmp_path / "link").symlink_to(tmp_path / "a")
        for place in (tmp_path / "a", tmp_path / "link", tmp_path / "b" / ".." / "a"):
            (tmp_path / "b").mkdir(exist_ok=True)
            with Experience(place, read_only=True) as other, pytest.raises(ExperienceError, match="into itself"):
                merge(a, other)
        assert len(a.episodes) == 3


def test_an_extra_that_only_looks_like_an_origin_is_none(tmp_path):
    with Experience(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        for i, strange in enumerate((7, {"store": "x"}, {"store": ["x"], "episode": 1, "first": 0})):
            b.append(invented(3, seed=i), task="one", extra={"origin": strange})
        assert merge(a, b) == 9
        assert merge(a, b) == 0
        assert [e.extra["origin"]["store"] for e in a.episodes] == [b.identity] * 3


@pytest.mark.parametrize("ends", ["terminated", "truncated", ""])
@pytest.mark.parametrize("lost", [1, 3, 8])
def test_a_copy_that_a_kill_tore_is_completed(tmp_path, ends, lost):
    with Experience(tmp_path / "b") as b:
        b.append(invented(3), task="one", seed=1)
        b.append(invented(9, seed=1, ends=ends), task="one", seed=2)
        with Experience(tmp_path / "a") as a:
            merge(a, b)
        (file,) = (tmp_path / "a").glob("*.segment")
        (tmp_path / "a" / "000001.json").unlink(missing_ok=True)
        row = 4 * (3 + 3 + 2 + 1)
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - row * (lost + (not ends)) + 5)
        with Experience(tmp_path / "a") as a:
            # 5 bytes of the first row that is lost are there.
            assert [e.decisions for e in a.episodes] == [3, 9 - lost]
            merge(a, b)
            assert facts(a) == facts(b)
            for one, other in zip(a.episodes, b.episodes, strict=True):
                assert_same(a.read(one), b.read(other))
            assert not a.running
            assert merge(a, b) == 0
        with Experience(tmp_path / "a", read_only=True) as a:
            assert a.verify() == []
            assert facts(a) == facts(b)
