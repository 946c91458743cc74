"""Running commands inside this process, and a small agent to run them with."""

from dataclasses import replace

import pytest
import torch

import envs
from agent import Agent, AgentInfo, preset
from envs import rendering
from preplay.cli import main
from tests.commands import outcome

TASK = "Reacher-v5"  # its episodes are the shortest, 50 steps
QUICK = ["--samples", "8", "--iterations", "1"]


@pytest.fixture
def preplay(capfd):
    """A function that runs a command line and returns exit code, standard output and standard error."""

    def run(*arguments):
        return outcome(main, arguments, capfd)

    yield run
    torch.set_num_threads(1)


def save_agent(folder, task=TASK, observation_dim=10, action_dim=2, **info):
    """An untrained agent in a checkpoint folder."""
    config = replace(preset("tiny"), device="cpu")
    made = Agent(config, observation_dim, action_dim, AgentInfo(task, 2, 25, False, **info), "cpu")
    made.save(folder, half=True)
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    return save_agent(tmp_path / "agent")


@pytest.fixture
def no_backend(monkeypatch):
    """A machine on which nothing can be rendered."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    envs.choose_backend.cache_clear()
    monkeypatch.setattr(rendering, "_works", lambda backend: False)
    yield
    envs.choose_backend.cache_clear()
