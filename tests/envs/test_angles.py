"""Angles of joints without limits are found among the observations."""

import numpy as np
import pytest

import envs


@pytest.mark.parametrize(
    ("task", "angles"),
    [
        ("reacher-easy", (0,)),  # the shoulder; the wrist has limits
        ("cheetah-run", (1,)),  # the pitch of the trunk
        ("Hopper-v5", (1,)),
        ("Swimmer-v5", (0,)),
        ("walker-walk", ()),  # its orientations are sines and cosines already
        ("cartpole-swingup", ()),
        ("pendulum-swingup", ()),
        ("humanoid-stand", ()),
        ("InvertedPendulum-v5", ()),
        ("tests.envs.own:Own-v0", ()),  # no MuJoCo inside
    ],
)
def test_winding_angles(task, angles):
    assert envs.winding_angles(envs.make(task)) == angles


def test_looking_for_them_does_not_change_the_episodes():
    untouched, searched = envs.make("reacher-easy"), envs.make("reacher-easy")
    envs.winding_angles(searched)
    action = np.full(2, 0.3, np.float32)
    for env in (untouched, searched):
        env.reset(seed=5)
    for _ in range(5):
        np.testing.assert_array_equal(untouched.step(action)[0], searched.step(action)[0])
