"""The rewards of the DeepMind Control suite's tasks, computed for many steps at once.

Each function mirrors the reward of one domain, in the same order of operations. Numbers come from dm_control itself:
from its tasks, its modules and its models. A domain that isn't here (dog) is left to dm_control's own code, one step
at a time.
"""

import functools
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from envs.quiet import import_suite
from envs.simulation.steps import Array, Reward, Steps, axis, position

Source = tuple[str | bytes, dict[str, bytes]]
"""A model as MJCF, and the files that it includes."""

INF = float("inf")


def suite_reward(task_id: str, task: Any, model: mujoco.MjModel) -> Reward | None:
    """The reward of a task; None for a domain that has none here.

    Args:
        task_id: `domain/task`.
        task: dm_control's task.
        model: its model.
    """
    maker = _REWARDS.get(task_id.partition("/")[0])
    return None if maker is None else maker(task_id.partition("/")[2], task, model)


def suite_spec(task_id: str, task: Any, model: mujoco.MjModel) -> mujoco.MjSpec:
    """The specification that the model of a task was made from."""
    text, assets = _source(task_id, task, model)
    return mujoco.MjSpec.from_string(text if isinstance(text, str) else text.decode(), include=assets)


def _source(task_id: str, task: Any, model: mujoco.MjModel) -> Source:
    suite = import_suite()
    domain, _, name = task_id.partition("/")
    module = getattr(suite, domain)
    if domain == "cartpole":
        return module.get_model_and_assets(model.nq - 1)
    if domain == "swimmer":
        return module.get_model_and_assets(model.nq - 2)
    if domain == "manipulator":
        return module.make_model(task._use_peg, task._insert)
    if domain == "stacker":
        return module.make_model(task._n_boxes)
    if domain == "quadruped":
        floors = {"walk": module._WALK_SPEED, "run": module._RUN_SPEED}
        arguments: dict[str, dict[str, Any]] = {
            "escape": {"floor_size": 40, "terrain": True, "rangefinders": True},
            "fetch": {"walls_and_ball": True},
        }
        size = {"floor_size": module._DEFAULT_TIME_LIMIT * floors.get(name, 0)}
        return module.make_model(**arguments.get(name, size)), suite.common.ASSETS
    return module.get_model_and_assets()


def tolerance(x: Array, *arguments: Any, **options: Any) -> Array:
    """dm_control's measure of how well a bound is kept, elementwise."""
    from dm_control.utils import rewards

    return rewards.tolerance(x, *arguments, **options)


def _norm(x: Array) -> Array:
    return np.linalg.norm(x, axis=-1)


def _small_control(s: Steps) -> Array:
    quality = tolerance(s.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean(-1)
    return (4 + quality) / 5


def _acrobot(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    target, tip = position("site", "target"), position("site", "tip")
    margin = 0 if task._sparse else 1

    def reward(s: Steps) -> Array:
        radius = s.model.site("target").size[0]
        return tolerance(_norm(s.sensor(target) - s.sensor(tip)), bounds=(0, radius), margin=margin)

    return Reward(reward, (target, tip))


def _ball_in_cup(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    target, ball = position("site", "target"), position("body", "ball")

    def reward(s: Steps) -> Array:
        room = s.model.site("target").size[[0, 2]] - s.model.geom("ball").size[0]
        off = abs(s.sensor(target) - s.sensor(ball))[..., [0, 2]]
        return (off < room).all(-1).astype(float)

    return Reward(reward, (target, ball))


def _cartpole(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    poles = tuple(axis("z", "body", model.body(i).name) for i in range(2, model.nbody))
    slider = int(model.joint("slider").qposadr[0])

    def cosines(s: Steps) -> Array:
        return np.stack([s.sensor(pole)[..., 2] for pole in poles], axis=-1)

    def sparse(s: Steps) -> Array:
        cart_in_bounds = tolerance(s.qpos[..., slider], task._CART_RANGE)
        return cart_in_bounds * tolerance(cosines(s), task._ANGLE_COSINE_RANGE).prod(-1)

    def smooth(s: Steps) -> Array:
        upright = (cosines(s) + 1) / 2
        centered = (1 + tolerance(s.qpos[..., slider], margin=2)) / 2
        small_control = tolerance(s.ctrl[..., 0], margin=1, value_at_margin=0, sigmoid="quadratic")
        small_control = (4 + small_control) / 5
        small_velocity = (1 + tolerance(s.qvel[..., 1:], margin=5).min(-1)) / 2
        return upright.mean(-1) * small_control * small_velocity * centered

    return Reward(sparse if task._sparse else smooth, poles)


def _cheetah(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    fast = import_suite().cheetah._RUN_SPEED

    def reward(s: Steps) -> Array:
        speed = s.sensor("torso_subtreelinvel")[..., 0]
        return tolerance(speed, bounds=(fast, INF), margin=fast, value_at_margin=0, sigmoid="linear")

    return Reward(reward)


def _finger(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    def spin(s: Steps) -> Array:
        return (s.sensor("hinge_velocity")[..., 0] <= -import_suite().finger._SPIN_VELOCITY).astype(float)

    def turn(s: Steps) -> Array:
        tip, spinner, target = (s.sensor(of)[..., [0, 2]] for of in ("tip", "spinner", "target"))
        to_target = (target - spinner) - (tip - spinner)
        return (_norm(to_target) - s.model.site("target").size[0] <= 0).astype(float)

    return Reward(spin if name == "spin" else turn)


def _fish(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    up = axis("z", "body", "torso")
    target, mouth = position("geom", "target"), position("geom", "mouth")
    frame = tuple(axis(letter, "geom", "mouth") for letter in "xyz")

    def upright(s: Steps) -> Array:
        return tolerance(s.sensor(up)[..., 2], bounds=(1, 1), margin=1)

    def swim(s: Steps) -> Array:
        radii = s.model.geom("mouth").size[0] + s.model.geom("target").size[0]
        away = s.sensor(target) - s.sensor(mouth)
        local = np.stack([(away * s.sensor(column)).sum(-1) for column in frame], axis=-1)
        in_target = tolerance(_norm(local), bounds=(0, radii), margin=2 * radii)
        return (7 * in_target + 0.5 * (s.sensor(up)[..., 2] + 1)) / 8

    return Reward(upright, (up,)) if name == "upright" else Reward(swim, (up, target, mouth, *frame))


def _hopper(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    torso, foot = position("inertia", "torso"), position("inertia", "foot")
    module = import_suite().hopper
    fast = module._HOP_SPEED

    def reward(s: Steps) -> Array:
        height = s.sensor(torso)[..., 2] - s.sensor(foot)[..., 2]
        standing = tolerance(height, (module._STAND_HEIGHT, 2))
        if not task._hopping:
            return standing * _small_control(s)
        speed = s.sensor("torso_subtreelinvel")[..., 0]
        return standing * tolerance(speed, bounds=(fast, INF), margin=fast / 2, value_at_margin=0.5, sigmoid="linear")

    return Reward(reward, (torso, foot))


def _humanoid(name: str, task: Any, model: mujoco.MjModel, *, module: str, trunk: str, up: str) -> Reward:
    # The CMU humanoid's thorax stands along its y axis.
    upwards, head = axis(up, "body", trunk), position("body", "head")
    height = getattr(import_suite(), module)._STAND_HEIGHT
    fast = task._move_speed

    def reward(s: Steps) -> Array:
        standing = tolerance(s.sensor(head)[..., 2], bounds=(height, INF), margin=height / 4)
        upright = tolerance(
            s.sensor(upwards)[..., 2], bounds=(0.9, INF), sigmoid="linear", margin=1.9, value_at_margin=0
        )
        stand_reward = standing * upright
        velocity = s.sensor(f"{trunk}_subtreelinvel")[..., :2]
        if fast == 0:
            return _small_control(s) * stand_reward * tolerance(velocity, margin=2).mean(-1)
        move = tolerance(_norm(velocity), bounds=(fast, INF), margin=fast, value_at_margin=0, sigmoid="linear")
        return _small_control(s) * stand_reward * ((5 * move + 1) / 6)

    return Reward(reward, (upwards, head))


def _lqr(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    def reward(s: Steps) -> Array:
        state_cost = 0.5 * (s.qpos * s.qpos).sum(-1)
        control = 0.5 * (s.ctrl * s.ctrl).sum(-1)
        return 1 - (state_cost + control * task.control_cost_coef)

    def ends(s: Steps) -> Array:
        return _norm(s.states[..., 1:]) < task._TERMINAL_TOL

    return Reward(reward, ends=ends)


def _manipulator(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    close = import_suite().manipulator._CLOSE
    pairs = [("ball", "target_ball")]
    if task._use_peg:
        pairs = [("peg_grasp", "grasp"), ("peg_pinch", "pinch"), ("peg", "target_peg"), ("target_peg_tip", "peg_tip")]
    sites = [(position("site", a), position("site", b)) for a, b in pairs]

    def reward(s: Steps) -> Array:
        near = [tolerance(_norm(s.sensor(a) - s.sensor(b)), (0, close), close * 2) for a, b in sites]
        if not task._use_peg:
            return near[0]
        grasping, bringing = (near[0] + near[1]) / 2, (near[2] + near[3]) / 2
        return np.maximum(bringing, grasping / 3)

    return Reward(reward, tuple(place for pair in sites for place in pair))


def _pendulum(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    pole = axis("z", "body", "pole")
    bounds = import_suite().pendulum._COSINE_BOUND, 1
    return Reward(lambda s: tolerance(s.sensor(pole)[..., 2], bounds), (pole,))


def _point_mass(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    target, mass = position("geom", "target"), position("geom", "pointmass")

    def reward(s: Steps) -> Array:
        size = s.model.geom("target").size[0]
        near_target = tolerance(_norm(s.sensor(target) - s.sensor(mass)), bounds=(0, size), margin=size)
        return near_target * _small_control(s)

    return Reward(reward, (target, mass))


def _quadruped(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    torso, workspace = axis("z", "body", "torso"), position("site", "workspace")
    target, ball = position("site", "target"), position("body", "ball")

    def upright(s: Steps, degrees: float = 0) -> Array:
        bound = np.cos(np.deg2rad(degrees))
        return tolerance(
            s.sensor(torso)[..., 2], bounds=(bound, INF), sigmoid="linear", margin=1 + bound, value_at_margin=0
        )

    def move(s: Steps) -> Array:
        fast = task._desired_speed
        speed = s.sensor("velocimeter")[..., 0]
        return upright(s) * tolerance(speed, bounds=(fast, INF), margin=fast, value_at_margin=0.5, sigmoid="linear")

    def escape(s: Steps) -> Array:
        size = s.model.hfield_size[0, 0]
        distance = _norm(s.sensor(workspace))
        return upright(s, 20) * tolerance(
            distance, bounds=(size, INF), margin=size, value_at_margin=0, sigmoid="linear"
        )

    def fetch(s: Steps) -> Array:
        arena = s.model.geom("floor").size[0] * np.sqrt(2)
        reach_radius = s.model.site("workspace").size[0] + s.model.geom("ball").size[0]
        options: dict[str, Any] = {"sigmoid": "linear", "margin": arena, "value_at_margin": 0}
        self_to_ball = _norm((s.sensor(workspace) - s.sensor(ball))[..., :2])
        ball_to_target = _norm((s.sensor(target) - s.sensor(ball))[..., :2])
        reach = tolerance(self_to_ball, bounds=(0, reach_radius), **options)
        fetched = tolerance(ball_to_target, bounds=(0, s.model.site("target").size[0]), **options)
        return upright(s) * (reach * (0.5 + 0.5 * fetched))

    if name == "escape":
        return Reward(escape, (torso, workspace))
    return Reward(fetch, (torso, workspace, target, ball)) if name == "fetch" else Reward(move, (torso,))


def _reacher(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    target, finger = position("geom", "target"), position("geom", "finger")

    def reward(s: Steps) -> Array:
        radii = s.model.geom("target").size[0] + s.model.geom("finger").size[0]
        return tolerance(_norm((s.sensor(target) - s.sensor(finger))[..., :2]), (0, radii))

    return Reward(reward, (target, finger))


def _stacker(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    boxes = tuple(position("site", box) for box in task._box_names)
    target, grasp = position("site", "target"), position("site", "grasp")
    close = import_suite().stacker._CLOSE

    def reward(s: Steps) -> Array:
        nearest = np.minimum.reduce([_norm(s.sensor(box) - s.sensor(target)) for box in boxes])
        box_is_close = tolerance(nearest, margin=2 * s.model.geom("target").size[0])
        hand = _norm(s.sensor(grasp) - s.sensor(target))
        return box_is_close * tolerance(hand, bounds=(0.1, INF), margin=close)

    return Reward(reward, (*boxes, target, grasp))


def _swimmer(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    target, nose = position("geom", "target"), position("geom", "nose")
    frame = axis("x", "body", "head"), axis("y", "body", "head")

    def reward(s: Steps) -> Array:
        size = s.model.geom("target").size[0]
        away = s.sensor(target) - s.sensor(nose)
        local = np.stack([(away * s.sensor(column)).sum(-1) for column in frame], axis=-1)
        return tolerance(_norm(local), bounds=(0, size), margin=5 * size, sigmoid="long_tail")

    return Reward(reward, (target, nose, *frame))


def _walker(name: str, task: Any, model: mujoco.MjModel) -> Reward:
    torso, up = position("body", "torso"), axis("z", "body", "torso")
    height = import_suite().walker._STAND_HEIGHT
    fast = task._move_speed

    def reward(s: Steps) -> Array:
        standing = tolerance(s.sensor(torso)[..., 2], bounds=(height, INF), margin=height / 2)
        upright = (1 + s.sensor(up)[..., 2]) / 2
        stand_reward = (3 * standing + upright) / 4
        if fast == 0:
            return stand_reward
        speed = s.sensor("torso_subtreelinvel")[..., 0]
        move = tolerance(speed, bounds=(fast, INF), margin=fast / 2, value_at_margin=0.5, sigmoid="linear")
        return stand_reward * (5 * move + 1) / 6

    return Reward(reward, (torso, up))


_REWARDS: dict[str, Callable[[str, Any, mujoco.MjModel], Reward]] = {
    "acrobot": _acrobot,
    "ball_in_cup": _ball_in_cup,
    "cartpole": _cartpole,
    "cheetah": _cheetah,
    "finger": _finger,
    "fish": _fish,
    "hopper": _hopper,
    "humanoid": functools.partial(_humanoid, module="humanoid", trunk="torso", up="z"),
    "humanoid_CMU": functools.partial(_humanoid, module="humanoid_CMU", trunk="thorax", up="y"),
    "lqr": _lqr,
    "manipulator": _manipulator,
    "pendulum": _pendulum,
    "point_mass": _point_mass,
    "quadruped": _quadruped,
    "reacher": _reacher,
    "stacker": _stacker,
    "swimmer": _swimmer,
    "walker": _walker,
}
