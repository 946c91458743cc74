import json
import shutil

import numpy as np
import pytest

from agent import Experience, ExperienceError
from agent.experience import rewinding, segment
from tests.agent.experience.stores import actor, contents, drawn, files, fill

OPTIONS = [
    {},
    {"capacity": 6},
    {"capacity": 3, "evict": "reservoir", "segment_bytes": 4300, "seed": 3},
]


def steps(experience: Experience):
    """Lives through some episodes, call by call."""
    for episode, length in enumerate([3, 0, 2, 1, 4, 2, 2]):
        dims = 3 if episode == 5 else 2
        experience.begin(np.full(dims, episode), task=f"toy {dims}", seed=episode)
        yield
        for t in range(length):
            ends = t == length - 1
            experience.add(
                [t, episode], 0.1 * t, np.full(dims, t), ends and episode == 2, ends and episode == 4, actor(t)
            )
            yield
        if episode % 3 == 0:
            experience.end_episode()
            yield


def state(experience: Experience, folder):
    try:
        samples = drawn(experience)
    except ExperienceError:
        samples = ["different sizes"]
    return len(experience), experience.total, contents(experience), samples, files(folder)


@pytest.mark.parametrize("options", OPTIONS, ids=["all", "oldest", "reservoir"])
def test_a_rewind_goes_back_to_what_there_was(tmp_path, options):
    options = {"segment_bytes": 4400} | options
    once = Experience(tmp_path / "once", **options)
    offsets, states = [once.offset], [state(once, tmp_path / "once")]
    for _ in steps(once):
        offsets.append(json.loads(json.dumps(once.offset)))
        states.append(state(once, tmp_path / "once"))
    assert len(once._held.segments) > 3
    once.close()
    for i in range(0, len(offsets), 1 if not options.get("capacity") else 4):
        work = tmp_path / "again"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "once", work)
        again = Experience(work, **options)
        assert files(work) == states[-1][-1]
        again.rewind(offsets[i])
        assert state(again, work) == states[i]
        assert again.offset == offsets[i] or i == 0
        if i % 8:
            continue
        # And everything that follows is as it was, too.
        for k, _ in enumerate(steps(again) if i == 0 else going_on(again, i)):
            if (k + i) % 9 == 0:
                assert state(again, work) == states[i + 1 + k]
        assert state(again, work) == states[-1]
        assert again.verify() == []
        again.close()


def test_a_run_does_not_go_on_from_a_store_that_was_cut_short(tmp_path):
    """An older segment that ends too soon, as of a copy that was cut off between two records, has no torn record."""
    with fill(Experience(tmp_path, segment_bytes=4300), [3, 3, 3, 3]) as experience:
        offset, second = experience.offset, experience._held.segments[1]
    assert len(segment.numbers(tmp_path)) > 2
    with second.path.open("r+b") as file:
        file.truncate(second.bytes - second.header.stride)
    # An index of what is left is written when it is opened, so it's told every time.
    for _ in range(2):
        with Experience(tmp_path, segment_bytes=4300) as experience:
            said = f"{second.path.name} was cut short: 1 of its decisions are missing"
            assert experience.dropped == [said]
            assert experience.verify() == [said]
            with pytest.raises(ExperienceError, match="doesn't hold what it held then"):
                experience.rewind(offset)


def going_on(experience: Experience, i: int):
    """The rest of `steps`, without doing its first `i` again."""

    class Skipping:
        def __init__(self):
            self.left = i

        def __getattr__(self, name):
            def call(*args, **kwargs):
                self.left -= 1
                if self.left < 0:
                    getattr(experience, name)(*args, **kwargs)

            return call

    for k, _ in enumerate(steps(Skipping())):
        if k >= i:
            yield


@pytest.mark.parametrize("fails", range(8))
def test_a_rewind_that_was_interrupted_can_be_repeated(tmp_path, monkeypatch, fails):
    class Killed(BaseException):
        pass

    once = Experience(tmp_path, segment_bytes=4400)
    live = steps(once)
    for _ in range(6):
        next(live)
    offset, before = once.offset, state(once, tmp_path)
    for _ in live:
        pass
    once.close()
    with Experience(tmp_path, segment_bytes=4400) as experience:
        left = [fails]

        def failing(call):
            def called(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return call(*args, **kwargs)

            return called

        with monkeypatch.context() as m:
            m.setattr("pathlib.Path.unlink", failing(segment.Path.unlink))
            m.setattr("agent.experience.rewinding.write_atomically", failing(rewinding.write_atomically))
            m.setattr("agent.experience.segment.sync_folder", failing(segment.sync_folder))
            with pytest.raises(Killed):
                experience.rewind(offset)
    with Experience(tmp_path, segment_bytes=4400) as experience:
        experience.rewind(offset)
        assert state(experience, tmp_path) == before


def test_what_the_store_does_not_hold_is_refused_and_nothing_changes(tmp_path):
    one = Experience(tmp_path / "1", segment_bytes=4400)
    other = Experience(tmp_path / "2", segment_bytes=4400)
    for experience in (one, other):
        for _ in steps(experience):
            pass
    before = state(one, tmp_path / "1")
    right = one.offset
    for wrong in (
        other.offset,
        right | {"bytes": right["bytes"] - 4},
        right | {"bytes": right["bytes"] + 28},
        right | {"bytes": 10**30},
        right | {"total": 3},
        right | {"segment": 99},
        right | {"segment": "1"},
        right | {"running": not right["running"], "total": right["total"] - 1},
        {},
    ):
        with pytest.raises(ExperienceError):
            one.rewind(wrong)
    assert state(one, tmp_path / "1") == before


def test_what_was_released_cannot_come_back(tmp_path):
    experience = Experience(tmp_path, segment_bytes=4400, capacity=3)
    live = steps(experience)
    for _ in range(6):
        next(live)
    early = experience.offset
    for _ in live:
        pass
    late = experience.offset
    experience.release()
    with pytest.raises(ExperienceError, match="can't go back"):
        experience.rewind(early)
    experience.rewind(late)


def test_opening_changes_nothing_and_a_cut_episode_stays(tmp_path):
    with Experience(tmp_path) as experience:
        experience.begin([0.0], task="toy")
        experience.add([0.0], 1.0, [1.0], False, False)
        offset = experience.offset
    before = files(tmp_path)
    with Experience(tmp_path) as experience:
        assert not experience.running
        with pytest.raises(ValueError, match="begin"):
            experience.add([0.0], 1.0, [1.0], False, False)
    assert files(tmp_path) == before
    with Experience(tmp_path) as experience:
        experience.begin([5.0], task="toy")
        experience.add([0.0], 1.0, [6.0], False, False)
        first, second = experience.episodes
        assert (first.decisions, first.terminated, first.truncated, first.running) == (1, False, False, False)
        assert second.running
        experience.rewind(offset)
        assert experience.episodes[-1].running
        experience.add([0.0], 2.0, [2.0], True, False)
        assert experience.read(experience.episodes[0]).rewards.tolist() == [1, 2]


def test_an_episode_that_was_only_begun_comes_back(tmp_path):
    with Experience(tmp_path) as experience:
        experience.begin([0.25, 1 / 3], task="toy", seed=7, extra={"a": [1]})
        offset = json.loads(json.dumps(experience.offset))
    with Experience(tmp_path) as experience:
        experience.rewind(offset)
        (episode,) = experience.episodes
        assert (episode.seed, episode.decisions, episode.running, episode.extra) == (7, 0, True, {"a": [1]})
        assert np.array_equal(experience.read(episode).observations, np.array([[0.25, 1 / 3]], np.float32))
        experience.add([0.0], 2.0, [2.0, 3.0], True, False)
        assert experience.episodes[0].seed == 7


def test_nothing_is_written_after_a_rewind_that_left_the_disk_unknown(tmp_path, monkeypatch):
    experience = fill(Experience(tmp_path), [3])
    offset = experience.offset
    fill(experience, [2])

    def broken(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("agent.experience.rewinding.go_back", broken)
        patched.setattr(Experience, "_read", broken)
        with pytest.raises(OSError, match="Input/output"):
            experience.rewind(offset)
    with pytest.raises(ExperienceError, match="closed"):
        experience.begin([0.0], task="another")
    with Experience(tmp_path) as again:
        again.rewind(offset)
        assert again.total == 3
