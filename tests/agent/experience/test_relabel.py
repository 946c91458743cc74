"""Rewards of another task are exactly those that it would have given."""

from dataclasses import replace

import numpy as np
import pytest

import envs
from agent.errors import ExperienceError
from agent.experience.merge import merge
from agent.experience.relabel import relabel
from agent.experience.store import Experience
from tests.agent.experience.lived import assert_same, facts, live
from tests.agent.toy import Point


@pytest.mark.parametrize(
    ("lived", "wanted"),
    [
        ("walker-walk", "walker-run"),
        ("cartpole-swingup", "cartpole-swingup-sparse"),
        ("reacher-easy", "reacher-hard"),
        ("hopper-stand", "hopper-hop"),
    ],
)
def test_tasks_that_share_a_world(tmp_path, lived, wanted):
    with (
        Experience(tmp_path / "old") as old,
        Experience(tmp_path / "new") as new,
        Experience(tmp_path / "true") as true,
    ):
        env, other = envs.make(lived), envs.make(wanted)
        for seed in (5, 6):
            live(old, env, lived, seed, 15)
            # The same actions, played in the wanted task to begin with.
            live(true, other, wanted, seed, 15)
        assert merge(new, old, task=wanted, make_env=lambda name: other) == 30
        for one, expected, was in zip(new.episodes, true.episodes, old.episodes, strict=True):
            got, given = new.read(one), true.read(expected)
            # Here an episode ends where its recording was cut off, and not as the other task would end it.
            assert_same(got, replace(given, truncated=np.zeros_like(given.truncated)))
            assert one.extra["relabelled_from"] == lived
            assert (one.task, one.seed, one.action_repeat, one.actors) == (wanted, was.seed, 2, was.actors)
        assert [e.task for e in old.episodes] == [lived] * 2
        assert merge(new, old, task=wanted) == 0


def test_relabelled_and_as_it_was_are_two_episodes(tmp_path):
    with Experience(tmp_path / "old") as old, Experience(tmp_path / "new") as new:
        live(old, envs.make("walker-walk"), "walker-walk", 1, 5)
        assert merge(new, old) == 5
        assert merge(new, old, task="walker-run", make_env=envs.make) == 5
        assert [e.task for e in new.episodes] == ["walker-walk", "walker-run"]
        assert merge(new, old) == merge(new, old, task="walker-run") == 0


@pytest.mark.parametrize(
    ("lived", "wanted", "words"),
    [
        ("cartpole-balance", "cartpole-swingup", "begin in different states"),
        ("walker-walk", "cheetah-run", "the worlds differ"),
        ("walker-walk", "cartpole-swingup", "an action has shape"),
    ],
)
def test_worlds_that_differ(tmp_path, lived, wanted, words):
    with Experience(tmp_path / "old") as old, Experience(tmp_path / "new") as new:
        live(old, envs.make(lived), lived, 5, 5)
        with pytest.raises(ExperienceError, match=words) as told:
            merge(new, old, task=wanted, make_env=envs.make)
        assert f"episode 0 of {lived}" in str(told.value)
        assert "the worlds differ" in str(told.value)
        assert len(new) == 0


def test_observations_that_come_out_otherwise_later_on(tmp_path):
    env = envs.make("walker-walk")
    with Experience(tmp_path / "old") as old:
        live(old, env, "walker-walk", 5, 10)
        (episode,) = old.episodes
        data = old.read(episode)
        other = replace(data, observations=data.observations.copy())
        other.observations[4, 2] += 0.001
        with pytest.raises(ExperienceError, match="after 4 decisions the observations differ"):
            relabel(other, episode, env)
        # What another machine rounds differently is still the same world, and stays as it was stored.
        other.observations[4, 2] = np.nextafter(data.observations[4, 2], np.float32(9))
        assert_same(relabel(other, episode, env), replace(other, truncated=np.zeros(10, bool)))


def test_no_seed(tmp_path):
    with Experience(tmp_path / "old") as old:
        live(old, Point(), "point", 5, 5)
        (episode,) = old.episodes
        with pytest.raises(ExperienceError, match="without its seed"):
            relabel(old.read(episode), replace(episode, seed=None), Point())


def test_where_the_other_task_ends_earlier_the_episode_is_cut(tmp_path):
    with Experience(tmp_path / "old") as old, Experience(tmp_path / "new") as new:
        for seed in range(8):
            live(old, Point(length=20), "point", seed, 20, extra={"mine": seed})
        merge(new, old, task="edge", make_env=lambda name: Point(can_terminate=True, length=20))
        ended = 0
        for was, episode in zip(old.episodes, new.episodes, strict=True):
            data, given = new.read(episode), old.read(was)
            length = episode.decisions
            assert episode.terminated == (abs(data.observations[-1, 0]) > 1.4)
            assert (np.abs(data.observations[1:-1, 0]) <= 1.4).all()
            assert episode.truncated == (length == 20)
            assert data.observations.tobytes() == given.observations[: length + 1].tobytes()
            assert data.actions.tobytes() == given.actions[:length].tobytes()
            assert data.actors == given.actors[:length]
            assert episode.extra["mine"] == was.seed
            ended += episode.terminated
        assert 0 < ended < 8
        merge(old, new)
        assert len(facts(old)) == 16
