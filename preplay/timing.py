"""How long a plan takes on this machine."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from agent import Agent, AgentInfo, TrainConfig, configure_torch

# The sizes of walker-walk, which are typical of the suite.
OBSERVATION_DIM, ACTION_DIM = 24, 6


def untrained_agent(config: TrainConfig) -> Agent:
    """An agent whose plans take as long as a trained one's."""
    configure_torch(config)
    return Agent(config, OBSERVATION_DIM, ACTION_DIM, AgentInfo("timing", 2, 500, False), config.device)


def plan_milliseconds(config: TrainConfig, seconds: float = 1.5, fewest: int = 8, **changes: Any) -> dict[str, float]:
    """Milliseconds that `Agent.act` takes for one environment: p50 and p95.

    Args:
        config: of the agent.
        seconds: how long to measure.
        fewest: plans to time at least, whatever they take.
        changes: settings of the configuration to change, such as `matmul_precision`.
    """
    agent = untrained_agent(replace(config, **changes))
    observation = np.zeros(OBSERVATION_DIM, np.float32)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(3):
            agent.act(observation)
        end = time.perf_counter() + seconds
        while len(times) < fewest or time.perf_counter() < end:
            began = time.perf_counter()
            agent.act(observation)
            times.append((time.perf_counter() - began) * 1000)
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}
