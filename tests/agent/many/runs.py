"""Small runs that are made together and alone."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from agent import AgentInfo, Trainer, preset
from agent.lessons import Lessons
from tests.agent.toy import Point, shake

TINY = preset("tiny")
CONFIG = replace(
    TINY,
    steps=36,
    random_steps=24,
    updates_per_decision=1,
    evaluate_every=30,
    evaluation_episodes=1,
    final_episodes=1,
    device="cpu",
    learner=replace(TINY.learner, batch_size=16),
    planning=replace(TINY.planning, samples=16, elites=4, proposals=4),
)


class Spinner(gymnasium.Env):
    """A wheel that can be turned for ever, on a cart; never ends before its time."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.angle, self.t = float(self.np_random.uniform(-1, 1)), float(self.np_random.uniform(0, 9)), 0
        return self._observe(), {}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.3 * float(action[0]), -1.5, 1.5))
        self.angle += float(action[1])
        self.t += 1
        return self._observe(), float(np.cos(self.angle) - self.x**2), False, self.t >= 8, {}

    def _observe(self):
        return np.array([self.x, self.angle, self.t / 8, self.x * self.t], np.float32)


class Failing(Point):
    """Comes apart in its 17th step."""

    def step(self, action):
        if self.t == 17:
            raise OSError("the wheel came off")
        return super().step(action)


class Slow(Point):
    """Takes its time, now and then."""

    def step(self, action):
        time.sleep(0.003 * (self.t % 3))
        return super().step(action)


def point():
    return Point(length=10)


def edge():
    return Point(can_terminate=True, length=10)


def slow_point():
    return Slow(length=10)


# A world whose episodes can't end early, one whose can, and one with other sizes and an angle that winds up.
WORLDS = [
    (point, AgentInfo("point", 1, 10, False)),
    (edge, AgentInfo("edge", 1, 10, True)),
    (Spinner, AgentInfo("spinner", 1, 8, False, (1,))),
]


def unsendable(post):
    """A run whose result can't be sent."""
    return lambda: None


def leaving(post):
    """A run that ends as a program does."""
    raise SystemExit(3)


@dataclass(frozen=True)
class Life:
    """A run in whatever process."""

    number: int
    folder: Path
    config: object = CONFIG
    world: tuple = None
    resume: bool = False

    def trainer(self, engine=None, on_progress=None):
        Lessons.LOG_EVERY = 4
        Trainer.REPORT_EVERY = 5
        make, info = self.world or WORLDS[self.number]
        seeded = replace(self.config, seed=self.number)
        folder = self.folder / str(self.number)
        made = Trainer(make(), make(), seeded, copy.deepcopy(info), folder, on_progress, engine=engine)
        # What has learned nothing scores all candidates alike, and rounding would choose among them.
        shake(made.agent.model, 0.2)
        return made

    def __call__(self, post):
        trainer = self.trainer(post.engine, lambda progress: post.tell(progress.step))
        post.on_stop(trainer.stop)
        final = trainer.resume() if self.resume else trainer.run()
        state = {name: x.numpy() for name, x in trainer.agent.model.state_dict().items()}
        return final["planner"].seeds, trainer._counts.updates, state
