import errno
import os
import signal

import numpy as np
import pytest

from agent import Experience, ExperienceError
from agent.experience import EpisodeData
from tests.agent.experience.stores import contents, drawn, files, fill


@pytest.mark.parametrize("durability", ["system", "episode"])
@pytest.mark.parametrize("kind", ["full", "short", "fsync"])
def test_a_full_disk_loses_nothing_and_later_it_goes_on(tmp_path, monkeypatch, durability, kind):
    whole = fill(Experience(tmp_path / "whole", segment_bytes=4300, durability=durability), [2, 5, 1])
    write, sync = os.write, os.fsync
    turn = {"left": 0}

    def fails() -> bool:
        turn["left"] -= 1
        return turn["left"] == -1

    def broken_write(file, data):
        if kind != "fsync" and fails():
            if kind == "full":
                write(file, bytes(data)[:5])
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, bytes(data)[:5])
        return write(file, data)

    def broken_sync(file):
        if kind == "fsync" and fails():
            raise OSError(errno.EIO, "Input/output error")
        sync(file)

    monkeypatch.setattr(os, "write", broken_write)
    monkeypatch.setattr(os, "fsync", broken_sync)
    experience = Experience(tmp_path / "s", segment_bytes=4300, durability=durability)
    failed, told = 0, set()
    for episode, length in enumerate([2, 5, 1]):
        experience.begin([episode, 0], task="toy", seed=episode, extra={"from": "test"})
        for t in range(length):
            last = t == length - 1
            values = [episode * 100 + t], float(t), [episode, t + 1], last, False, ("", "policy", "planner")[t % 3]
            for n in range(4):
                before = experience.total, contents(experience), drawn(experience)
                turn["left"] = n
                try:
                    experience.add(*values)
                except OSError as error:
                    told.add(error.filename)
                    failed += 1
                    turn["left"] = -1
                    assert (experience.total, contents(experience), drawn(experience)) == before
                    assert experience.verify() == [] or kind == "fsync"
                else:
                    break
            else:
                turn["left"] = -1
                experience.add(*values)
            turn["left"] = -1
    assert None not in told
    assert failed == 8 if kind != "fsync" else failed > 0
    assert len(experience._held.segments) > 1
    assert contents(experience) == contents(whole)
    assert experience.verify() == []
    experience.close()
    whole.close()
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_an_interruption_in_the_middle_of_a_write_leaves_no_half_record(tmp_path, monkeypatch):
    experience = fill(Experience(tmp_path), [3])
    experience.begin([1, 0], task="toy")
    experience.add([0.0], 0.0, [1, 1], False, False)
    before = files(tmp_path)
    write = os.write

    def interrupted(file, data):
        write(file, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experience.add([0.0], 0.0, [1, 2], False, False)
    monkeypatch.undo()
    assert files(tmp_path) == before
    experience.add([0.0], 0.0, [1, 2], False, True)
    assert experience.verify() == []


def test_an_appended_episode_is_the_same_as_one_that_was_lived(tmp_path):
    lived = fill(Experience(tmp_path / "lived", segment_bytes=4500), [3, 12, 4, 1], terminated=False)
    lived.begin([9, 9], task="toy", seed=4, action_repeat=2)
    lived.add([1.0], 0.1, [9, 10], False, False)
    lived.end_episode()
    with Experience(tmp_path / "copy", segment_bytes=4500) as copy:
        for episode in lived.episodes:
            copy.append(
                lived.read(episode),
                task=episode.task,
                seed=episode.seed,
                action_repeat=episode.action_repeat,
                extra=episode.extra,
            )
        assert copy.verify() == []
        read = [{k: v for k, v in x.items() if k not in ("row", "segment")} for x in contents(copy)]
        assert read == [{k: v for k, v in x.items() if k not in ("row", "segment")} for x in contents(lived)]


def test_an_episode_without_decisions_can_be_appended(tmp_path):
    nothing = np.zeros(0, np.float32)
    data = EpisodeData(np.ones((1, 3), np.float32), np.zeros((0, 2), np.float32), nothing, nothing > 0, nothing > 0, [])
    with Experience(tmp_path) as experience:
        experience.append(data, task="toy")
        assert len(experience) == 0
        experience.append(data, task="toy")
    with Experience(tmp_path) as experience:
        assert [(x.number, x.decisions) for x in experience.episodes] == [(0, 0), (1, 0)]
        assert experience.read(experience.episodes[1]).actions.shape == (0, 2)
        assert experience.verify() == []


def test_there_is_one_writer(tmp_path):
    experience = fill(Experience(tmp_path), [3])
    with pytest.raises(ExperienceError, match="another process is writing"):
        Experience(tmp_path)
    experience.close()
    experience.close()
    with pytest.raises(ExperienceError, match="closed"):
        experience.begin([0.0, 0.0], task="toy")
    Experience(tmp_path).close()


def _write_for_ever(folder, told):
    """Says how many decisions there are, in the middle of every third episode."""
    experience = Experience(folder, segment_bytes=6000)
    os.write(told, b"0\n")
    for episode in range(10**6):
        experience.begin([episode, 0], task="toy")
        for t in range(10):
            experience.add([100 * episode + t], float(t), [episode, t + 1], t == 9, False, str(t % 3))
            if t == 5 and episode % 3 == 2:
                os.write(told, b"%d\n" % experience.total)


def test_a_kill_loses_nothing_and_frees_the_lock_and_a_reader_sees_whole_records(tmp_path):
    receiving, sending = os.pipe()
    # A copy of this process, since a new one would take seconds to load torch.
    child = os.fork()
    if child == 0:
        try:
            _write_for_ever(tmp_path, sending)
        finally:
            os._exit(1)
    os.close(sending)
    try:
        with open(receiving) as told_by_child:
            assert told_by_child.readline() == "0\n"
            with pytest.raises(ExperienceError, match="another process is writing"):
                Experience(tmp_path)
            reader, seen = Experience(tmp_path, read_only=True), 0
            for _ in range(12):
                told = int(told_by_child.readline())
                reader.refresh()
                assert reader.total >= max(told, seen)
                seen = reader.total
                batch = reader.sample(200, 3, np.random.default_rng(seen))
                real = batch.mask > 0
                assert (batch.actions[..., 0][real] % 100 == batch.rewards[real]).all()
                assert (batch.observations[1:, :, 1][real] == batch.rewards[real] + 1).all()
                assert reader.dropped == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with Experience(tmp_path) as experience:
        assert experience.total >= told
        assert experience.verify() == []
        numbers = [x.number for x in experience.episodes]
        assert numbers == list(range(len(numbers)))
        reader.refresh()
        assert contents(reader)[:-1] == contents(experience)[:-1]


def test_a_reader_sees_what_is_appended_finished_wound_back_and_released(tmp_path):
    writer = Experience(tmp_path, segment_bytes=4500, capacity=20)
    reader = Experience(tmp_path, read_only=True, capacity=20)
    assert len(reader) == 0
    offsets = []
    for episode, length in enumerate([3, 12, 4, 9, 9, 2]):
        fill(writer, [length], first=episode)
        offsets.append(writer.offset)
        reader.refresh()
        assert contents(reader) == contents(writer)
        assert drawn(reader) == drawn(writer)
    writer.rewind(offsets[3])
    fill(writer, [2, 5], first=4)
    reader.refresh()
    assert contents(reader) == contents(writer)
    writer.release()
    reader.refresh()
    assert contents(reader) == contents(writer)
    with pytest.raises(ExperienceError, match="read only"):
        reader.begin([0.0], task="toy")
    before = files(tmp_path)
    reader.close()
    assert files(tmp_path) == before


def test_a_reader_sees_a_segment_replaced_twice(tmp_path):
    # Some file systems give a new file the inode of one that was just removed.
    with fill(Experience(tmp_path), [3]) as writer:
        offset = writer.offset
        fill(writer, [4], first=1)
        reader = Experience(tmp_path, read_only=True)
        for first in (2, 3):
            writer.rewind(offset)
            fill(writer, [5], first=first)
        reader.refresh()
        assert contents(reader) == contents(writer)


def test_an_episode_that_was_cut_is_ended_before_the_next_and_its_segment_stays_sound(tmp_path):
    def live(experience, actor, decisions):
        experience.begin([0.0], task="toy")
        for t in range(decisions):
            experience.add([0.0], float(t), [1.0], False, False, actor)

    with Experience(tmp_path) as experience:
        live(experience, "one", 2)
        offset = experience.offset
    with Experience(tmp_path, segment_bytes=4500) as experience:
        live(experience, "two", 9)
        late = experience.offset
    with Experience(tmp_path, segment_bytes=4500) as experience:
        live(experience, "three", 1)  # in another segment, since the first is full
        assert len(experience._held.segments) == 2
        assert experience.verify() == []
        assert [x.decisions for x in experience.episodes] == [2, 9, 1]
        experience.rewind(late)
        assert experience.running
        experience.rewind(offset | {"running": False})
        live(experience, "four", 9)
        live(experience, "five", 1)
        assert len(experience._held.segments) == 2
        assert experience.verify() == []
        assert [x.actors for x in experience.episodes] == [{"one": 2}, {"four": 9}, {"five": 1}]


def test_an_appended_episode_that_float32_can_not_hold_is_refused(tmp_path):
    with fill(Experience(tmp_path), [3]) as experience:
        before = contents(experience)

        def with_other(name, values):
            data = experience.read(experience.episodes[0])
            object.__setattr__(data, name, values)  # as where nothing checks the types
            return data

        for name in ("observations", "actions", "rewards"):
            large = getattr(experience.read(experience.episodes[0]), name).astype(np.float64) + 1e39
            with pytest.raises(ValueError, match="NaN or infinite"):
                experience.append(with_other(name, large), task="toy")
        assert contents(experience) == before
        experience.append(with_other("rewards", np.array([0.1, 0.2, 0.3])), task="toy")
        assert experience.episodes[1].episode_return == sum(np.float32([0.1, 0.2, 0.3]).tolist())
        assert experience.verify() == []
