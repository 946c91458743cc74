"""Makes a golden checkpoint with the code of today: python tests/golden/make.py NAME [--angles 1 4] [--half] and more.

Never over one that exists: those are what the code of their day wrote, and the tests hold all code to come to them.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from agent import Agent, AgentInfo, ModelConfig, TrainConfig
from agent.checkpoint import attach

OBSERVATION_DIM, ACTION_DIM = 5, 2


def main() -> None:
    """Makes one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--angles", type=int, nargs="*", default=[])
    parser.add_argument("--terminates", action="store_true")
    parser.add_argument("--half", action="store_true")
    options = parser.parse_args()
    folder = Path(__file__).parent / options.name
    folder.mkdir()
    agent = make(tuple(options.angles), options.terminates)
    agent.save(folder, options.half)
    attach(folder, "CARD.md", b"# golden\n\nWeights at random; it knows nothing.\n")
    record(folder)


def make(angles: tuple[int, ...], terminates: bool) -> Agent:
    """A small agent whose weights are random throughout: heads begin at zero, where nothing would show."""
    config = dataclasses.replace(
        TrainConfig(), model=ModelConfig(latent_dim=16, hidden_dim=16, encoder_dim=16, bins=21)
    )
    more = {"angles": angles} if angles else {}  # there was a time before angles
    info = AgentInfo("golden", 2, 100, terminates, training={"steps": 1, "command": "tests/golden/make.py"}, **more)
    agent = Agent(config, OBSERVATION_DIM, ACTION_DIM, info, "cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.normal_(std=0.5, generator=generator)
        agent.model.norm.update(torch.randn(50, OBSERVATION_DIM, generator=generator) * 3 + 1)
    return agent


def record(folder: Path) -> None:
    """Writes down what the loaded agent does."""
    observations = np.random.default_rng(0).normal(size=(4, OBSERVATION_DIM), scale=3).round(3)
    agent = Agent.load(folder, "cpu")
    actions = {}
    for planner in ("policy", "mppi"):
        agent.use_planner(planner=planner)
        agent.seed(7)
        actions[planner] = [[float(x) for x in agent.act(observation)] for observation in observations]
    text = json.dumps({"observations": observations.tolist(), "seed": 7, "actions": actions}, indent=2)
    (folder / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
