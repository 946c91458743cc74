"""What the simulator predicts is what executing the actions brings."""

import copy
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

import envs
from envs import TaskError
from envs.physics import physics
from envs.simulation import rolled, rollouts

KNOWN = [task.name for task in envs.tasks()]
# Where nothing but sums, products and comparisons stands between states and rewards, or the environment's own code
# computes them, predictions are equal to the last bit. Elsewhere NumPy may round a root or a power differently for one
# number and for many.
EXACT = {
    "cheetah-run",
    "hopper-hop",
    "quadruped-walk",
    "quadruped-run",
    *(name for name in KNOWN if name.startswith(("dog-", "finger-"))),
    *(name for name in KNOWN if name.endswith("-v5") and name != "Pusher-v5"),
}
COPIES = {
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "Reacher-v5",
}


def started(task, seed=3, decisions=4, **options):
    """An environment some random decisions into an episode."""
    env = envs.make(task, seed=seed, **options)
    env.reset()
    rng = np.random.default_rng(seed)
    for _ in range(decisions):
        if env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))[2]:
            env.reset()
    return env


def candidates(simulator, batch=1, number=2, horizon=6, seed=0, bound=1.2):
    """Random candidates, some elements at and beyond the edge of the box."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-bound, bound, (batch, number, horizon, simulator.action_dim)).astype(np.float32)
    actions[rng.uniform(size=actions.shape) < 0.1] = 1
    return torch.from_numpy(actions)


def execute(env, actions):
    """Rewards, terminations and the last observation of executing a sequence (H, A)."""
    rewards, ends, observation = [], [], None
    for action in actions.numpy():
        observation, reward, terminated, _, info = env.step(action)
        rewards.append(reward)
        ends.append(terminated)
        assert not info["unstable"]
        if terminated:
            break
    return np.array(rewards), ends, observation


def agree(task, predicted, rewards):
    if task in EXACT:
        np.testing.assert_array_equal(predicted, rewards)
    else:
        np.testing.assert_allclose(predicted, rewards, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("task", KNOWN)
def test_the_predicted_rewards_are_the_rewards(task):
    env = started(task)
    with envs.Simulator(task) as simulator:
        assert simulator.exact_copies == (task in COPIES)
        # Rewards are computed for all steps at once wherever they can be: it is what makes planning fast.
        assert task in COPIES or (simulator._world.reward is None) == task.startswith("dog-")
        assert (simulator.action_dim,) == env.action_space.shape
        assert (simulator.observation_dim,) == env.observation_space.shape
        state, actions = simulator.snapshot(env), candidates(simulator)
        imagined = simulator.imagine(state, actions)
        seen = simulator.observe(imagined)
        value = simulator.score(state)(actions.double())
    rewards, ends, observation = execute(env, actions[0, 1])
    long = len(rewards)
    agree(task, imagined.rewards[0, 1, :long].numpy(), rewards)
    assert imagined.rewards[0, 1, long:].eq(0).all()
    assert imagined.continues[0, 1].tolist() == [1.0] * (long - ends[-1]) + [0.0] * (6 - long + ends[-1])
    assert not imagined.diverged.any()
    assert value[0, 1].item() == pytest.approx(rewards.sum(), rel=1e-9, abs=1e-9)
    assert seen.dtype == torch.float32
    np.testing.assert_array_equal(seen[0, 1].numpy(), np.zeros_like(observation) if ends[-1] else observation)
    env.close()


def tip_on_target(inside):
    tip = inside.named.data.sensordata["tip"]
    inside.named.model.site_pos["target", ["x", "z"]] = tip[[0, 2]]


def ball_in_cup(inside):
    for joint, axis in (("ball_x", "x"), ("ball_z", "z")):
        away = inside.named.data.site_xpos["target", axis] - inside.named.data.xpos["ball", axis]
        inside.named.data.qpos[joint] += away


def bring(inside):
    for thing in ("ball", "peg"):
        if f"target_{thing}" in inside.named.model.body_pos.axes.row.names:
            inside.named.model.body_pos[f"target_{thing}"] = inside.named.data.xpos[thing]
            inside.named.model.body_quat[f"target_{thing}"] = inside.named.data.xquat[thing]


def rest(inside):
    inside.reset()


def swim_there(inside):
    inside.named.model.geom_pos["target"] = inside.named.data.geom_xpos["mouth"] + [0.02, 0.05, 0.03]


# How to come near a reward that random actions don't find.
NEAR = {
    "acrobot-swingup-sparse": rest,
    "acrobot-swingup": rest,
    "cartpole-balance-sparse": rest,
    "cartpole-swingup": rest,
    "cartpole-swingup-sparse": rest,
    "cartpole-three-poles": rest,
    "cup-catch": ball_in_cup,
    "finger-spin": lambda inside: inside.named.data.qvel.__setitem__("hinge", -30),
    "finger-turn-hard": tip_on_target,
    "fish-swim": swim_there,
    "hopper-hop": lambda inside: (rest(inside), inside.named.data.qvel.__setitem__("rootx", 2)),
    "hopper-stand": rest,
    "humanoid-cmu-run": rest,
    "humanoid-cmu-stand": rest,
    "humanoid-run": rest,
    "humanoid-stand": rest,
    "humanoid-walk": rest,
    "manipulator-bring-ball": bring,
    "manipulator-insert-peg": bring,
    "pendulum-swingup": rest,
    "point-mass-easy": rest,
    "point-mass-hard": rest,
    "quadruped-run": rest,
    "reacher-easy": lambda inside: inside.named.model.geom_pos.__setitem__(
        "target", inside.named.data.geom_xpos["finger"]
    ),
    "stacker-stack-2": lambda inside: inside.named.model.body_pos.__setitem__(
        "target", inside.named.data.xpos["box1"] + [0.01, 0, 0.02]
    ),
    "walker-run": rest,
    "walker-stand": rest,
    "walker-walk": rest,
}


@pytest.mark.parametrize("task", NEAR)
def test_it_predicts_rewards_that_are_hard_to_find(task):
    env = started(task)
    inside = env.unwrapped._env.physics
    NEAR[task](inside)
    inside.forward()
    with envs.Simulator(task) as simulator:
        state, actions = simulator.snapshot(env), candidates(simulator, horizon=5, bound=0.1)
        predicted = simulator.imagine(state, actions).rewards[0, 1].numpy()
    rewards = execute(env, actions[0, 1])[0]
    assert predicted.max() > 0.05
    agree(task, predicted, rewards)
    env.close()


@pytest.mark.parametrize("task", ["walker-run", "hopper-stand", "finger-turn-easy", "lqr-lqr-2-1", "quadruped-escape"])
def test_dm_controls_own_code_says_the_same(task, monkeypatch):
    """It is what is run where a domain is unknown."""
    env = started(task)
    with envs.Simulator(task) as simulator:
        state, actions = simulator.snapshot(env), candidates(simulator)
        at_once = simulator.imagine(state, actions)
    monkeypatch.setattr(rolled, "suite_reward", lambda *_: None)
    with envs.Simulator(task) as simulator:
        assert not simulator.exact_copies
        assert simulator._world.reward is None
        one_by_one = simulator.imagine(state, actions)
        np.testing.assert_array_equal(one_by_one.rewards[0, 1].numpy(), execute(env, actions[0, 1])[0])
    np.testing.assert_allclose(one_by_one.rewards, at_once.rewards, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("task", "repeat"), [("cheetah-run", 1), ("walker-walk", 5), ("HalfCheetah-v5", 3)])
def test_a_decision_lasts_as_long_as_it_should(task, repeat):
    env = started(task, action_repeat=repeat)
    with envs.Simulator(task, action_repeat=repeat) as simulator:
        state, actions = simulator.snapshot(env), candidates(simulator)
        predicted = simulator.imagine(state, actions).rewards[0, 1].numpy()
    agree(task, predicted, execute(env, actions[0, 1])[0])


@pytest.mark.parametrize("task", ["walker-walk", "reacher-hard", "dog-fetch", "Hopper-v5", "Ant-v5"])
def test_planning_leaves_the_episode_alone(task):
    untouched, planned = started(task, decisions=0), started(task, decisions=0)
    with envs.Simulator(task) as simulator:
        for action in candidates(simulator)[0, 0].numpy():
            simulator.score(simulator.snapshot(planned), terminal=lambda seen: seen.sum(-1))(
                candidates(simulator, horizon=2)
            )
            one, other = untouched.step(action), planned.step(action)
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1:4] == other[1:4]
    np.testing.assert_array_equal(untouched.reset()[0], planned.reset()[0])


@pytest.mark.parametrize(
    "task", ["cheetah-run", "reacher-easy", "point-mass-hard", "lqr-lqr-2-1", "Swimmer-v5", "Ant-v5"]
)
def test_several_states_at_once(task):
    """Whether or not an episode has another target, or other gains, in its model."""
    with envs.Simulator(task) as simulator:
        states = [simulator.snapshot(started(task, seed)) for seed in (1, 2, 3)]
        actions = candidates(simulator, batch=3)
        together = simulator.imagine(states, actions)
        seen = simulator.observe(together)
        for b in (2, 0, 1):
            alone = simulator.imagine(states[b], actions[b : b + 1])
            assert torch.equal(alone.rewards[0], together.rewards[b])
            assert torch.equal(simulator.observe(alone)[0], seen[b])
        assert not torch.equal(together.rewards[0], together.rewards[1]) or not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("task", ["humanoid-walk", "finger-turn-easy", "Walker2d-v5"])
def test_neither_threads_nor_portions_change_a_prediction(task, monkeypatch):
    env = started(task)
    results = []
    for threads, portion in ((1, rollouts._PORTION), (2, rollouts._PORTION), (3, 1)):
        monkeypatch.setattr(rollouts, "_PORTION", portion)
        with envs.Simulator(task, threads=threads) as simulator:
            imagined = simulator.imagine(simulator.snapshot(env), candidates(simulator, number=7))
            results.append((imagined.rewards, imagined.continues, simulator.observe(imagined)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_simulator_can_be_used_again_and_then_closed():
    env = started("cheetah-run")
    simulator = envs.Simulator("cheetah-run")
    state, actions = simulator.snapshot(env), candidates(simulator, horizon=8)
    score = simulator.score(state)
    first = score(actions)
    assert score(actions[:, :1, :3]).shape == (1, 1)
    assert torch.equal(score(actions), first)
    simulator.close()
    simulator.close()
    with pytest.raises(RuntimeError, match="closed"):
        score(actions)


def shaken(state, speed):
    """The same moment with all velocities set to something that no physics stands."""
    data = copy.copy(state.data)
    if data is not None:
        data.qvel[:] = speed
    full, moving = state.physics.copy(), len(state.warmstart)
    first = len(full) - moving
    full[first:] = speed
    return replace(state, physics=full, data=data)


@pytest.mark.parametrize("task", ["cheetah-run", "reacher-easy", "HalfCheetah-v5", "Reacher-v5"])
def test_what_diverges_scores_worst(task):
    with envs.Simulator(task, threads=2) as simulator:
        state = simulator.snapshot(started(task))
        actions = candidates(simulator, batch=2, number=5)
        imagined = simulator.imagine([state, shaken(state, 1e9)], actions)
        assert imagined.diverged.tolist() == [[False] * 5, [True] * 5]
        assert imagined.continues[1, :, -1].eq(0).all()
        assert simulator.observe(imagined).isfinite().all()
        values = simulator.score([state, shaken(state, 1e9)], terminal=lambda seen: seen.sum(-1))(actions)
        assert values[0].isfinite().all()
        assert values[1].eq(-torch.inf).all()
        # Nothing of it stays behind.
        assert torch.equal(simulator.imagine(state, actions[:1]).rewards, imagined.rewards[:1])


def test_an_action_that_is_no_number_scores_worst():
    with envs.Simulator("cartpole-balance") as simulator:
        score = simulator.score(simulator.snapshot(started("cartpole-balance")))
        actions = candidates(simulator, number=3)
        expected = score(actions)
        actions[0, 1, 2] = torch.nan
        values = score(actions)
        assert values[0, 1] == -torch.inf
        assert torch.equal(values[0, ::2], expected[0, ::2])


@pytest.mark.parametrize("task", ["Hopper-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Walker2d-v5"])
@pytest.mark.parametrize("repeat", [1, 4])
def test_nothing_is_earned_after_the_end(task, repeat):
    env = started(task, decisions=0, action_repeat=repeat)
    with envs.Simulator(task, action_repeat=repeat) as simulator:
        state, actions = simulator.snapshot(env), candidates(simulator, number=3, horizon=80)
        imagined = simulator.imagine(state, actions)
        value = simulator.score(state, terminal=lambda seen: torch.full((len(seen),), 1e6))(actions.double())
    rewards, ends, _ = execute(env, actions[0, 2])
    assert ends[-1]
    np.testing.assert_array_equal(imagined.rewards[0, 2, : len(rewards)].numpy(), rewards)
    assert imagined.rewards[0, 2, len(rewards) :].eq(0).all()
    assert imagined.continues[0, 2].sum() == len(rewards) - 1
    assert value[0, 2].item() == pytest.approx(rewards.sum(), rel=1e-9)


def test_a_suite_task_that_ends():
    env = started("lqr-lqr-2-1", decisions=0)
    data = physics(env)[1]
    data.qpos[:], data.qvel[:] = 1e-7, 0
    env.unwrapped._env.physics.forward()
    with envs.Simulator("lqr-lqr-2-1") as simulator:
        assert simulator.task.can_terminate
        imagined = simulator.imagine(simulator.snapshot(env), torch.zeros(1, 1, 3, 1))
    _, reward, terminated, *_ = env.step(np.zeros(1, np.float32))
    assert terminated
    assert imagined.rewards[0, 0].tolist() == pytest.approx([reward, 0, 0], rel=1e-12)
    assert imagined.continues.eq(0).all()


@pytest.mark.parametrize("task", ["walker-walk", "Hopper-v5", "Ant-v5"])
def test_rewards_are_discounted_and_what_follows_has_a_value(task):
    env = started(task)
    with envs.Simulator(task) as simulator:
        actions = candidates(simulator, horizon=4)
        score = simulator.score(simulator.snapshot(env), 0.9, lambda seen: seen.double().square().sum(-1))
        value = score(actions.double())[0, 1].item()
        assert score(actions).dtype == torch.float32
    rewards, _, observation = execute(env, actions[0, 1])
    expected = sum(0.9**t * reward for t, reward in enumerate(rewards))
    expected += 0.9**4 * np.square(observation.astype(float)).sum()
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("task", ["humanoid-walk", "Humanoid-v5", "InvertedPendulum-v5", "lqr-lqr-6-2"])
def test_actions_are_scaled_as_the_environment_scales_them(task):
    from envs.simulation.actions import OwnActions
    from envs.simulation.copies import chain
    from envs.wrappers import NormalizedActions

    env = envs.make(task)
    wrapper = next(layer for layer in chain(env) if isinstance(layer, NormalizedActions))
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.5, 1.5, (200, *env.action_space.shape)).astype(np.float32)
    edges = np.array([-1, 1, 0, -0.0, np.nextafter(1, 2), np.nextafter(-1, 0), 1e30])
    actions[: len(edges)] = edges[:, None]
    scaled = OwnActions(env)(actions.astype(np.float64))
    expected = np.stack([wrapper.action(action) for action in actions])
    assert scaled.dtype == expected.dtype
    np.testing.assert_array_equal(scaled, expected)


def test_time_limits_play_no_part():
    env = started("Swimmer-v5", max_episode_steps=6)
    with envs.Simulator("Swimmer-v5") as simulator:
        imagined = simulator.imagine(simulator.snapshot(env), candidates(simulator, horizon=10))
        assert imagined.continues.eq(1).all()
        assert imagined.rewards.ne(0).all()


def test_only_its_own_task_can_be_continued():
    with envs.Simulator("walker-walk") as simulator:
        with pytest.raises(TaskError, match="walker-run with action repeat 2; this simulator is of walker-walk"):
            simulator.snapshot(started("walker-run"))
        with pytest.raises(TaskError, match="action repeat 4"):
            simulator.snapshot(started("walker-walk", action_repeat=4))
        with pytest.raises(TaskError, match=r"not made by envs\.make"):
            simulator.snapshot(gymnasium.make("Hopper-v5"))
        simulator.snapshot(gymnasium.wrappers.RecordEpisodeStatistics(started("walker-walk")))


@pytest.mark.parametrize("task", ["Pendulum-v1", "tests.envs.own:Own-v0"])
def test_other_simulators_are_refused(task):
    with pytest.raises(TaskError, match="does not run on MuJoCo"):
        envs.Simulator(task)


@pytest.mark.parametrize("threads", [0, True, 1.5])
def test_threads_are_a_positive_number(threads):
    with pytest.raises(TaskError, match="threads is"):
        envs.Simulator("walker-walk", threads=threads)


@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (2, 2, 3, 1), (1, 3, 1), (1, 0, 3, 1), (1, 2, 0, 1)])
def test_candidates_of_a_wrong_shape_are_refused(shape):
    with envs.Simulator("cartpole-balance") as simulator:
        state = simulator.snapshot(started("cartpole-balance"))
        with pytest.raises(ValueError, match=r"expected \(B, N, H, A\) with B = 1 and A = 1"):
            simulator.score(state)(torch.zeros(shape))
