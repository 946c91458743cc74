"""A user's own MuJoCo environment as a model: whatever it remembers, and whatever it does to its model."""

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium import spaces

import envs

CART = """
<mujoco>
  <worldbody>
    <body>
      <joint name="slide" type="slide" axis="1 0 0" damping="0.5"/>
      <joint name="turn" type="hinge" axis="0 1 0"/>
      <geom size="0.1 0.2" type="capsule" pos="0 0 0.3"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="3" ctrlrange="-2 1"/><motor joint="turn" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Moody(gymnasium.Env):
    """Its reward depends on how often it was stepped, on chance and on a wind that turns as it goes on."""

    observation_space = spaces.Dict({"state": spaces.Box(-np.inf, np.inf, (4,)), "mood": spaces.Box(-9, 9, (2, 1))})

    def __init__(self):
        self.model = mujoco.MjModel.from_xml_string(CART)
        self.model.opt.density = 50
        self.data = mujoco.MjData(self.model)
        self.position = self.data.qpos  # a view that must stay one
        self.action_space = spaces.Box(np.array([-2.0, -1.0]), np.array([1.0, 1.0]), dtype=np.float64)
        self.steps, self.mood, self.diary = 0, np.zeros((2, 1)), []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.np_random.normal(size=2)
        self.model.body_mass[1] = self.np_random.uniform(1, 3)
        self.model.opt.wind[:] = 0
        self.steps, self.diary = 0, []
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        self.mood += 0.1 * self.np_random.normal(size=(2, 1))
        self.diary.append(float(action[0]))
        self.model.opt.wind[:2] = np.sin(self.steps), self.mood[0, 0]
        self.data.ctrl[:] = action
        self.data.xfrc_applied[1, 0] = self.mood[1, 0]
        mujoco.mj_step(self.model, self.data, 5)
        reward = self.position[0] + self.mood.sum() + len(self.diary) + np.mean(self.diary[-3:])
        return self._observation(), reward, self.steps == 15, self.steps == 9, {}

    def _observation(self):
        return {
            "state": np.concatenate((self.data.qpos, self.data.qvel)).astype(np.float32),
            "mood": self.mood.astype(np.float32),
        }


class Halved(gymnasium.RewardWrapper):
    """A wrapper that comes with a task and has a hand in its reward."""

    def reward(self, reward):
        return reward / 2


gymnasium.register("Moody-v0", Moody, max_episode_steps=30)
gymnasium.register(
    "Half-v0",
    lambda **options: Halved(gymnasium.make("HalfCheetah-v5", **options)),
    max_episode_steps=30,
)
gymnasium.register(
    "Healthy-v0", "gymnasium.envs.mujoco.hopper_v5:HopperEnv", kwargs={"terminate_when_unhealthy": False}
)
HERE = "tests.envs.test_simulator_own:"


@pytest.mark.parametrize(("task", "copies"), [("Moody-v0", True), ("Half-v0", True), ("Healthy-v0", False)])
@pytest.mark.parametrize("repeat", [1, 3])
def test_an_environment_of_a_users_own(task, copies, repeat):
    env = envs.make(HERE + task, seed=1, action_repeat=repeat)
    env.reset()
    env.step(np.ones(env.action_space.shape, np.float32))
    horizon = 9 // repeat
    with envs.Simulator(HERE + task, action_repeat=repeat) as simulator:
        assert simulator.exact_copies == copies
        state = simulator.snapshot(env)
        actions = torch.rand(1, 3, horizon, simulator.action_dim, generator=torch.Generator().manual_seed(0)) * 2 - 1
        imagined = simulator.imagine(state, actions)
        seen = simulator.observe(imagined)[0, 2].numpy()
        assert torch.equal(simulator.imagine(state, actions).rewards, imagined.rewards)
    observation, rewards = None, []
    for action in actions[0, 2].numpy():
        # That it truncates itself at its ninth step is none of the simulator's business.
        observation, reward, terminated, _, _ = env.step(action)
        rewards.append(reward)
        assert not terminated
    np.testing.assert_array_equal(imagined.rewards[0, 2].numpy(), rewards)
    np.testing.assert_array_equal(seen, observation)
    env.close()


def test_another_model_is_refused():
    env = envs.make(f"{HERE}Moody-v0", seed=1)
    env.reset()
    with envs.Simulator(f"{HERE}Moody-v0") as simulator:
        env.unwrapped.model = mujoco.MjModel.from_xml_string("<mujoco/>")
        env.unwrapped.data = mujoco.MjData(env.unwrapped.model)
        with pytest.raises(envs.TaskError, match="has built another model"):
            simulator.snapshot(env)


def test_its_end_is_foreseen():
    env = envs.make(f"{HERE}Moody-v0", seed=1)
    env.reset()
    with envs.Simulator(f"{HERE}Moody-v0") as simulator:
        imagined = simulator.imagine(simulator.snapshot(env), torch.zeros(1, 1, 20, 2))
        assert imagined.continues[0, 0].tolist() == [1.0] * 14 + [0.0] * 6
        assert imagined.rewards[0, 0, 15:].eq(0).all()
