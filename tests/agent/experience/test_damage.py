import json
import os
import re
import shutil
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Experience, ExperienceError
from agent.experience import records
from tests.agent.experience.stores import contents, drawn, fill

HEADER = records.HEADER_BYTES


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of two segments, the second of which is being written, and its rows' stride."""
    folder = tmp_path_factory.mktemp("stored")
    with fill(Experience(folder, segment_bytes=4450), [6]) as experience:
        experience.begin([1, 0], task="toy")
        experience.add([100], 0.0, [1, 1], False, False)
        experience.end_episode()
        experience.begin([2, 0], task="toy")
        experience.add([200], 0.0, [2, 1], False, False)
        experience.add([201], 1.0, [2, 2], False, False, "somebody new")
        assert [s.number for s in experience._held.segments] == [1, 2]
        assert experience._held.segments[1].gaps
        return folder, experience._held.segments[1].header


def copied(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def whole(data: bytes, header: records.Header) -> list[records.Record]:
    """The records of a segment."""
    return list(records.scan(np.frombuffer(data[HEADER:], np.float32).reshape(-1, header.words), header))


def test_a_crash_at_any_byte_loses_only_the_record_that_was_not_finished(stored, tmp_path):
    folder, header = stored
    data = (folder / "000002.segment").read_bytes()
    with Experience(folder, read_only=True) as experience:
        everything = contents(experience)
    steps_before = {n: sum(len(e["rewards"]) for e in everything[:n]) for n in range(4)}
    work = copied(folder, tmp_path / "s")
    every, stride = whole(data, header), header.stride
    # Every byte of a record of each kind, the bytes beside every record's end, and some of the header.
    sizes, seen = {0, 1, 400, 2000, HEADER - 1, HEADER, HEADER + 1}, set()
    gaps = range(every[-2].row, every[-1].row)
    for r in every:
        begin, end = HEADER + r.row * stride, HEADER + (r.row + r.rows) * stride
        kind = r.kind, r.row in gaps
        sizes |= set(range(end - 1, min(end + 2, len(data) + 1)) if kind in seen else range(begin, end + 1))
        seen.add(kind)
    assert {kind for kind, _ in seen} == {records.EPISODE, records.ACTOR, records.RESET, records.STEP, records.END}
    assert (records.ACTOR, True) in seen
    for size in sorted(sizes):
        held = [r for r in every if HEADER + (r.row + r.rows) * stride <= size]
        for extra in (*work.glob("dropped*"), *work.glob("00000[3-9].*"), *work.glob("000002.json")):
            extra.unlink()
        (work / "000002.segment").write_bytes(data[:size])
        within = (size - HEADER) % stride
        if within in (0, 1, stride - 1):
            with Experience(work, read_only=True) as reader:
                assert reader.total == steps_before[1] + sum(r.kind == records.STEP for r in held)
                read = contents(reader) if within < 2 else []
            assert (work / "000002.segment").stat().st_size == size
        with Experience(work, segment_bytes=5000) as experience:
            steps = sum(r.kind == records.STEP for r in held)
            assert experience.total == steps_before[1] + steps
            resets = sum(r.kind == records.RESET for r in held)
            found = contents(experience) if within < 2 else []
            assert [e.number for e in experience.episodes] == list(range(1 + resets))
            for a, b in zip(found, everything, strict=False):
                n = len(a["rewards"])
                assert a["rewards"] == b["rewards"][:n]
                assert a["observations"] == b["observations"][: n + 1]
                assert a["actors"] == b["actors"][:n]
                assert not a["running"]
            assert not found or [e | {"running": False} for e in read] == found
            kept = max((HEADER + (r.row + r.rows) * stride for r in held if r.kind > 2), default=0)
            # An episode that was only described is not one, and a segment without episodes is not one either.
            kept = kept if resets else 0
            if kept and kept == size:
                assert experience.dropped == []
            elif kept:
                (sentence,) = experience.dropped
                count = int(re.search(r"after record (\d+) of 000002", sentence)[1])
                assert f"dropped {size - kept} bytes" in sentence
                assert count == len([r for r in held if HEADER + r.row * stride < kept])
            else:
                assert "removed 000002.segment" in experience.dropped[0]
            assert not list(work.glob("dropped*"))
            if not found:
                continue
            fill(experience, [3], first=1 + resets)
            assert experience.verify() == []
            again = contents(experience)
            assert again[: len(found)] == found
            assert again[-1]["rewards"] == [0, 1, 2]


def test_a_byte_that_flips_is_found_and_yields_no_wrong_record(stored, tmp_path):
    folder, header = stored
    with Experience(folder, read_only=True) as experience:
        everything = contents(experience)
    rng, work = np.random.default_rng(0), copied(folder, tmp_path / "s")
    for name in ("000002.segment", "000001.segment"):
        data = (folder / name).read_bytes()
        rows = range(HEADER, len(data), header.stride)
        # A byte of each row, and every byte of one.
        places = [at + int(rng.integers(header.stride)) for at in rows][:: 1 if "2" in name else 4]
        places += range(len(data) - header.stride, len(data)) if "2" in name else []
        places += [0, 4, 8, 12, 50, HEADER - 1]
        for place in places:
            for file in work.glob("dropped-*.bin"):
                file.unlink()
            broken = bytearray(data)
            broken[place] ^= 1 << int(rng.integers(8))
            (work / name).write_bytes(broken)
            if place < HEADER:
                with pytest.raises(ExperienceError, match=name):
                    Experience(work)
                continue
            with Experience(work, read_only=True) as experience:
                damage = experience.verify()
                assert damage
                assert any(name in sentence and "damaged" in sentence for sentence in damage)
                if name == "000001.segment":
                    continue
                for a, b in zip(contents(experience), everything, strict=False):
                    assert a["rewards"] == b["rewards"][: len(a["rewards"])]
                    assert a["observations"] == b["observations"][: len(a["observations"])]
                    assert a["actors"] == b["actors"][: len(a["actors"])]
            with Experience(work) as experience:
                assert experience.dropped
                kept = list(work.glob("dropped-*.bin"))
                if place < len(data) - 2 * header.stride:
                    assert kept
                for file in kept:
                    begin = int(file.stem.split("-")[-1])
                    assert file.read_bytes() == bytes(broken[begin:])
                    assert begin == ((work / name).stat().st_size if (work / name).exists() else 0)
                assert experience.verify() == []
        (work / name).write_bytes(data)


@pytest.mark.parametrize("damage", ["missing", "garbage", "stale", "flipped", "empty", "other"])
@pytest.mark.parametrize("read_only", [False, True])
def test_an_index_is_never_trusted_further_than_it_fits(tmp_path, damage, read_only):
    fill(Experience(tmp_path, segment_bytes=4200), [4, 3, 2]).close()
    with Experience(tmp_path, read_only=True) as experience:
        everything = contents(experience)
    file = tmp_path / "000001.json"
    right = file.read_text()
    bad = {
        "garbage": "}{",
        "stale": re.sub(r'"bytes":\d+', '"bytes":5008', right),
        "flipped": right.replace('"task":[0', '"task":[1'),
        "empty": "",
        "other": (tmp_path / "000002.json").read_text(),
    }.get(damage)
    file.unlink() if bad is None else file.write_text(bad)
    with Experience(tmp_path, read_only=read_only) as experience:
        assert contents(experience) == everything
        assert experience.dropped == []
        assert bool(experience.verify()) == read_only
    assert (file.exists() and file.read_text() == right) == (not read_only)


def test_an_index_whose_checksum_is_right_has_to_make_sense(tmp_path):
    fill(Experience(tmp_path, segment_bytes=4200), [4, 3]).close()
    file = tmp_path / "000001.json"
    right = json.loads(file.read_text())["index"]
    with Experience(tmp_path, read_only=True) as experience:
        everything = contents(experience)
    episodes = right["episodes"]
    for wrong in (
        {"episodes": None},
        {"episodes": episodes | {"row": [10**9]}},
        {"episodes": episodes | {"decisions": [-1]}},
        {"episodes": episodes | {"decisions": [4.5]}},
        {"episodes": episodes | {"number": [7]}},
        {"episodes": episodes | {"actors": [{"nobody": 4}]}},
        {"episodes": episodes | {"seed": ["x"]}},
        {"episodes": episodes | {"row": []}},
        {"actors": [1]},
        {"actors": []},
        {"gaps": ["x"]},
        {"gaps": [10**9]},
    ):
        text = json.dumps(right | wrong, separators=(",", ":"))
        file.write_text(f'{{"checksum":{zlib.crc32(text.encode())},"index":{text}}}\n')
        with Experience(tmp_path, read_only=True) as experience:
            assert contents(experience) == everything


def test_damage_in_a_finished_segment_without_an_index_is_told_and_nothing_is_cut_off(tmp_path):
    fill(Experience(tmp_path, segment_bytes=4200), [8, 3, 2]).close()
    file = tmp_path / "000001.segment"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with Experience(tmp_path) as experience:
        assert fill(experience, [1], first=3).dropped == []  # with its index nobody looks
        with pytest.raises(ExperienceError, match=r"episode 0 in 000001\.segment is damaged"):
            experience.read(experience.episodes[0])
    (tmp_path / "000001.json").unlink()
    for read_only in (True, False):
        with Experience(tmp_path, read_only=read_only) as experience:
            assert "000001.segment" in experience.dropped[0]
            assert [x.number for x in experience.episodes] == [0, 1, 2, 3]
            assert experience.episodes[0].decisions < 8
            assert experience.episodes[1].first == 8
            batch = experience.sample(500, 4, np.random.default_rng(0))
            assert (batch.actions[0, :, 0].int() % 100 == batch.rewards[0]).all()
    assert file.read_bytes() == data


@pytest.mark.parametrize(
    "change",
    [
        {"observation_dim": 10**9},
        {"action_dim": 0},
        {"action_dim": True},
        {"first": -1},
        {"format": 2},
        {"words": 5},
        {"uuid": 3},
        {"observation_dim": "2"},
    ],
)
def test_a_header_that_claims_the_impossible_is_refused(stored, tmp_path, change):
    folder, header = stored
    work = copied(folder, tmp_path / "s")
    file = work / "000002.segment"
    values = {"format": 1, "words": header.words} | vars(header) | change
    head = records._framed(records.HEADER, 0, json.dumps(values).encode(), HEADER)
    file.write_bytes(head + file.read_bytes()[HEADER:])
    for read_only in (True, False):
        with pytest.raises(ExperienceError, match=r"000002\.segment"):
            Experience(work, read_only=read_only)


@pytest.mark.parametrize("name", ["000001.segment", "000002.segment", "000001.json", "lock"])
def test_links_are_refused(stored, tmp_path, name):
    work = copied(stored[0], tmp_path / "s")
    os.rename(work / name, tmp_path / "elsewhere")
    (work / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExperienceError, match=name):
        Experience(work)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(ExperienceError, match="there is no experience"):
        Experience(tmp_path, read_only=True)
    with pytest.raises(ExperienceError, match="there is no experience"):
        Experience(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperienceError, match="can't be a folder"):
        Experience(tmp_path / "file")
    (tmp_path / "000001.segment").mkdir()
    with pytest.raises(ExperienceError, match="no regular file"):
        Experience(tmp_path)


def test_segments_of_two_stores_do_not_go_together(tmp_path):
    for name in "ab":
        fill(Experience(tmp_path / name, segment_bytes=4200), [4, 3]).close()
    for name in ("000002.segment",):
        shutil.copy(tmp_path / "a" / name, tmp_path / "b" / name)
    with pytest.raises(ExperienceError, match="does not belong"):
        Experience(tmp_path / "b")


@given(
    where=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    name=st.sampled_from(["000001.segment", "000002.segment", "000001.json"]),
    cut=st.none() | st.integers(0, 10**6),
    right_checksums=st.booleans(),
)
def test_whatever_the_bytes_are_there_is_right_content_or_one_error(stored, where, name, cut, right_checksums):
    folder, header = stored
    errors: list[str] = []
    with TemporaryDirectory() as temporary:
        work = copied(folder, Path(temporary) / "s")
        data = bytearray((work / name).read_bytes())
        for place, value in where:
            data[place % len(data)] = value
        if right_checksums and name == "000002.segment":
            for row in range(HEADER, len(data), header.stride):
                data[row + 4 : row + 8] = zlib.crc32(data[row + 8 : row + header.stride]).to_bytes(4, "little")
        if cut is not None:
            del data[cut % len(data) :]
        (work / name).write_bytes(data)
        for read_only in (True, False):
            try:
                with Experience(work, read_only=read_only) as experience:
                    contents(experience)
                    drawn(experience)
                    experience.verify()
            except ExperienceError as error:
                errors.append(str(error))
    assert all(len(error.splitlines()) == 1 for error in errors)
