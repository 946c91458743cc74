"""Pictures without a display."""

import os
import subprocess
import sys

import numpy as np
import pytest

import envs
from envs import RenderError, rendering


@pytest.fixture
def backend():
    try:
        return envs.choose_backend()
    except RenderError as error:
        pytest.skip(str(error))


@pytest.fixture
def fresh_choice(monkeypatch):
    """A process that has not chosen a backend yet."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    envs.choose_backend.cache_clear()
    yield monkeypatch
    envs.choose_backend.cache_clear()


@pytest.mark.parametrize("task", ["walker-walk", "reacher-easy", "Hopper-v5", "Ant-v5", "quadruped-escape"])
def test_frames_show_something_that_moves(backend, task):
    env = envs.make(task, seed=0, render_mode="rgb_array", width=160, height=120)
    assert env.render_mode == "rgb_array"
    env.reset()
    first = env.render()
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    assert first.std() > 10
    assert np.array_equal(first, env.render())
    for _ in range(10):
        env.step(env.action_space.sample())
    assert (env.render() != first).any()
    env.reset(seed=5)
    env.render()
    env.close()


def test_drawing_does_not_change_the_episode(backend):
    returns = []
    for mode in (None, "rgb_array"):
        env = envs.make("cartpole-swingup", seed=0, render_mode=mode, width=64, height=48)
        env.reset()
        total = 0.0
        for i in range(20):
            total += env.step([np.sin(i)])[1]
            if mode:
                env.render()
        returns.append(total)
        env.close()
    assert returns[0] == returns[1]


def test_fast_drawing_is_faster(backend):
    fast = envs.render_speed(frames=20)
    full = envs.render_speed(frames=20, fast=False)
    assert fast > full


def test_no_backend_is_one_sentence(fresh_choice):
    fresh_choice.setattr(rendering, "_works", lambda backend: False)
    with pytest.raises(RenderError, match="install") as error:
        envs.make("walker-walk", render_mode="rgb_array")
    assert "\n" not in str(error.value)
    envs.make("walker-walk").close()  # everything else goes on


@pytest.mark.parametrize("named", ["nonsense", "disabled"])
def test_a_variable_that_names_no_backend_is_said_so(fresh_choice, named):
    fresh_choice.setenv("MUJOCO_GL", named)
    with pytest.raises(RenderError, match="MUJOCO_GL"):
        envs.choose_backend()


def test_a_named_backend_is_respected_even_when_it_fails(fresh_choice):
    tried = []
    fresh_choice.setattr(rendering, "_works", lambda backend: tried.append(backend))
    fresh_choice.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(RenderError, match="glfw"):
        envs.choose_backend()
    assert tried == ["glfw"]


def test_a_platform_left_over_in_the_environment_does_no_harm(backend):
    code = "import envs; e = envs.make('Hopper-v5', render_mode='rgb_array'); e.reset(seed=0); print(e.render().shape)"
    environment = dict(os.environ, PYOPENGL_PLATFORM="osmesa" if backend == "egl" else "egl")
    environment.pop("MUJOCO_GL", None)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(240, 320, 3)\n", "")


def test_the_first_backend_that_works_is_taken(fresh_choice):
    fresh_choice.setattr(rendering, "_works", lambda backend: backend == "osmesa")
    assert envs.choose_backend() == "osmesa"


def test_a_world_without_mujoco_cannot_be_drawn(backend):
    with pytest.raises(RenderError, match="no MuJoCo"):
        envs.make("tests.envs.own:Own-v0", render_mode="rgb_array")


@pytest.mark.parametrize("setting", [None, "disabled", "nonsense"])
def test_importing_and_stepping_is_silent_whatever_the_variable_says(setting):
    code = "import envs; e = envs.make('cheetah-run', seed=0); e.reset(); e.step(e.action_space.sample())"
    code += "; e = envs.make('HalfCheetah-v5'); e.reset(seed=0); e = envs.make('quadruped-escape'); e.reset(seed=0)"
    environment = {"PATH": "", "PYTHONPATH": ".", "HOME": "/nonexistent"}
    if setting:
        environment["MUJOCO_GL"] = setting
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
