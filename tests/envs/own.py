"""Environments of a user's own, registered the way users do: by importing this module."""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

import envs


class Own(gymnasium.Env):
    """Says what was done to it.

    Observations are a Dict, actions lie in [-0.4, 3]; the last action that arrived is part of the observation.
    """

    observation_space = spaces.Dict(
        {"pose": spaces.Box(-np.inf, np.inf, (2, 2), np.float64), "speed": spaces.Box(-1, 1, (3,), np.float32)}
    )

    def __init__(self, ends_at=None, low=(-0.4, -0.4), high=(3.0, 0.4)):
        self.action_space = spaces.Box(np.array(low), np.array(high), dtype=np.float64)
        self.ends_at, self.seen = ends_at, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.seen.append(np.array(action))
        self.t += 1
        return self._observation(), 1.0, self.t == self.ends_at, False, {}

    def _observation(self):
        return {"pose": self.np_random.normal(size=(2, 2)), "speed": np.full(3, self.t / 100, np.float32)}


class Unbounded(Own):
    """Actions without bounds."""

    def __init__(self):
        super().__init__(low=(-np.inf, -1), high=(np.inf, 1))


class NaNObservation(Own):
    """Observations that stop being numbers at the third step, without any MuJoCo to ask."""

    def _observation(self):
        observation = super()._observation()
        if self.t == 3:
            observation["speed"][1] = np.nan
        return observation


class TooLarge(Own):
    """Observations that single precision can't hold from the third step on."""

    def _observation(self):
        observation = super()._observation()
        if self.t == 3:
            observation["pose"][0, 1] = 1e39
        return observation


class InPlace(NaNObservation):
    """The same, always in the same arrays."""

    def _observation(self):
        if not hasattr(self, "kept"):
            self.kept = super()._observation()
        for name, value in super()._observation().items():
            self.kept[name][:] = value
        return self.kept


class Chatty(Own):
    """Prints, as many do."""

    def reset(self, *, seed=None, options=None):
        print("robot ready")
        return super().reset(seed=seed)


class Loose(Own):
    """Comes apart, where the environment variable LOOSE is set."""

    def step(self, action):
        if self.t == 4 and "LOOSE" in os.environ:
            raise envs.TaskError("the wheel came off")
        return super().step(action)


class Pixels(gymnasium.Env):
    """An image."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, (8, 8, 3), dtype=np.uint8), {}

    def step(self, action):
        return self.np_random.integers(0, 256, (8, 8, 3), dtype=np.uint8), 0.0, False, False, {}


for _name, _class in {
    "Own": Own,
    "Unbounded": Unbounded,
    "NaN": NaNObservation,
    "InPlace": InPlace,
    "TooLarge": TooLarge,
    "Chatty": Chatty,
    "Loose": Loose,
    "Pixels": Pixels,
}.items():
    gymnasium.register(f"{_name}-v0", _class, max_episode_steps=20)
gymnasium.register("Ending-v0", Own, max_episode_steps=20, kwargs={"ends_at": 5})
