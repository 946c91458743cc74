import numpy as np
import pytest

from agent import RandomActor, bootstrap_interval, evaluate, play
from tests.agent.toy import Point, tiny_agent


def test_an_episode_is_the_same_whichever_others_are_played():
    agent, env = tiny_agent(2, 1), Point()
    together = play(agent, env, [3, 4, 5])
    alone = play(agent, env, [4])
    assert together.returns[1] == alone.returns[0]
    assert together.seeds == [3, 4, 5]
    assert together.lengths == [20, 20, 20]
    assert len(together.milliseconds) == 60
    assert together.percentiles()["p50"] <= together.percentiles()["p99"]


def test_every_episode_is_counted_also_those_that_end_early():
    episodes = play(RandomActor(1), Point(can_terminate=True, length=200), range(8))
    assert len(episodes.returns) == 8
    assert any(episodes.terminated)
    assert episodes.mean_return == pytest.approx(np.mean(episodes.returns))
    assert sum(episodes.lengths) == len(episodes.milliseconds)


def test_evaluation_leaves_the_agent_as_it_was():
    agent = tiny_agent(2, 1)
    agent.act(np.zeros(2))
    warm, state = agent.running, agent.generator.get_state()
    evaluate(agent, Point(), [1, 2], planner="policy")
    assert agent.running is warm
    assert agent.planning.planner == "mppi"
    assert (agent.generator.get_state() == state).all()


def test_frames_and_progress_are_handed_on():
    class Drawn(Point):
        def render(self):
            return self.t

    frames, calls = [], []
    play(RandomActor(1), Drawn(), [0], lambda i, total: calls.append(i), lambda i, frame: frames.append(frame))
    assert frames == list(range(21))
    assert calls == [0] * 20


def test_bootstrap_intervals():
    low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0])
    assert 1 <= low < 2.5 < high <= 4
    assert bootstrap_interval([5.0, 5.0]) == (5, 5)
    assert bootstrap_interval([5.0]) == (None, None)
    covered = 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        low, high = bootstrap_interval(list(rng.normal(7, 2, 30)))
        covered += low <= 7 <= high
    assert covered >= 85
