"""What every planner promises, tested for every planner there is: ours, and plugins of both kinds."""

import random
import time
import warnings
from dataclasses import replace
from importlib.metadata import EntryPoint
from zlib import crc32

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import planners
from planners import Plan, PlannerError, registry
from planners.knots import Knots
from tests.planners.toy import Doubtful, bowl, rough_score, seeded, uniform

OURS = planners.names()
ALL = [*OURS, "toy-decorated", "toy-entry-point"]
NAN, INF = float("nan"), float("inf")
# Examples of each promise, others for each planner. CMA-ES takes many times as long as the others.
EXAMPLES = {name: 5 if name == "cmaes" else 12 for name in ALL}


@pytest.fixture(scope="module", autouse=True)
def plugins():
    """Somebody else's planners, as they become known: one by the decorator, one by an entry point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_planners", dict(registry._planners))
        planners.register("toy-decorated")(Doubtful)
        entry = EntryPoint("toy-entry-point", "tests.planners.toy:Shrinking", "preplay.planners")
        patch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()


@st.composite
def all_knobs(draw):
    """Sizes, and everything that is orthogonal to the algorithm."""
    horizon = draw(st.integers(1, 5))
    return {
        "horizon": horizon,
        "action_dim": draw(st.integers(1, 3)),
        "samples": draw(st.integers(1, 24)),
        "iterations": draw(st.integers(1, 3)),
        "elites": draw(st.integers(1, 30)),
        "keep": draw(st.integers(1, 4)),
        "remember": draw(st.integers(0, 4)),
        "noise_beta": draw(st.sampled_from([0.0, 0.5, 2.0])),
        "knots": draw(st.none() | st.integers(1, horizon)),
        "interpolation": draw(st.sampled_from(["zero", "linear", "cubic"])),
        "execute": draw(st.sampled_from(["mean", "best"])),
    }


knobs = all_knobs()
seeds = st.integers(0, 2**31)
batches = st.integers(1, 3)
bads = st.sampled_from([NAN, INF, -INF])


def promise(**drawn):
    """A test for every planner, with examples of the arguments that it draws."""

    def decorate(check):
        @pytest.mark.parametrize("name", ALL)
        def test(name):
            @hypothesis.seed(crc32(name.encode()))
            @settings(max_examples=EXAMPLES[name], database=None)
            @given(**drawn)
            def holds(**arguments):
                if "knobs" in arguments and not planners.get(name).colours_noise:
                    arguments["knobs"] |= {"noise_beta": 0.0}
                check(name, **arguments)

            holds()

        test.__doc__ = check.__doc__
        return test

    return decorate


def warm_plan(knobs, batch: int, seed: int, remembered: int) -> Plan:
    """A plan of an earlier decision, with elites that it remembers."""
    shape = (knobs["horizon"], knobs["action_dim"])
    actions, elites = uniform(seed, batch, *shape), uniform(seed + 1, batch, remembered, *shape)
    nothing = torch.zeros(batch)
    return Plan(actions, nothing, torch.ones_like(actions), 1, 1, nothing == 0, nothing, elites)


def assert_same(one: Plan, two: Plan):
    assert torch.equal(one.actions, two.actions)
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.std, two.std)
    assert torch.equal(one.valid, two.valid)
    assert torch.equal(one.stakes, two.stakes)
    assert (one.evaluations, one.iterations) == (two.evaluations, two.iterations)
    assert (one.elites is None) == (two.elites is None)
    assert one.elites is None or torch.equal(one.elites, two.elites)


# What is scored and returned.


@promise(knobs=knobs, batch=batches, seed=seeds)
def test_every_action_scored_or_returned_is_in_the_box(name, knobs, batch, seed):
    seen = []

    def score(actions):
        seen.append(actions.detach())
        return rough_score(seed)(actions)

    plan = planners.make(name, **knobs).plan(score, batch, generator=seeded(seed))
    assert seen
    for actions in [*seen, plan.actions]:
        assert actions.dtype == torch.float32
        assert actions.abs().max() <= 1
    shape = (knobs["horizon"], knobs["action_dim"])
    assert plan.actions.shape == plan.std.shape == (batch, *shape)
    assert plan.value.shape == plan.valid.shape == (batch,)
    assert plan.valid.all()
    assert torch.isfinite(plan.std).all()
    assert (plan.std >= 0).all()
    assert plan.evaluations == sum(actions.shape[1] for actions in seen)
    assert plan.iterations == knobs["iterations"]
    if knobs["remember"] == 0:
        assert plan.elites is None
    else:
        assert plan.elites.shape[1] <= min(knobs["remember"], knobs["keep"], knobs["elites"])
        assert plan.elites.shape[2:] == shape
        assert plan.elites.abs().max() <= 1


@promise(knobs=knobs, batch=batches, seed=seeds, proposed=st.integers(1, 4), remembered=st.integers(1, 5))
def test_never_worse_than_the_warm_start_or_a_proposal(name, knobs, batch, seed, proposed, remembered):
    """Nor than what an earlier plan remembers, as far as this one does."""
    warm = warm_plan(knobs, batch, seed, remembered)
    proposals = uniform(seed + 2, batch, proposed, knobs["horizon"], knobs["action_dim"])
    score = rough_score(seed)
    plan = planners.make(name, **knobs).plan(score, batch, warm, proposals, generator=seeded(seed))
    compete = torch.cat([warm.actions.unsqueeze(1), proposals, warm.elites[:, : knobs["remember"]]], dim=1)
    assert (plan.value >= score(compete).amax(1) - 1e-5).all()
    torch.testing.assert_close(score(plan.actions.unsqueeze(1))[:, 0], plan.value, atol=1e-4, rtol=1e-4)


@promise(knobs=knobs, seed=seeds, remembered=st.integers(1, 5))
def test_warm_start_proposals_and_memory_compete_first_and_as_they_are(name, knobs, seed, remembered):
    """Knots notwithstanding."""
    seen = []

    def score(actions):
        seen.append(actions.detach())
        return rough_score(seed)(actions)

    warm = warm_plan(knobs, 1, seed, remembered)
    proposals = uniform(seed + 2, 1, 2, knobs["horizon"], knobs["action_dim"])
    planners.make(name, **knobs).plan(score, 1, warm, proposals, generator=seeded(seed))
    compete = torch.cat([warm.actions.unsqueeze(1), proposals, warm.elites[:, : knobs["remember"]]], dim=1)
    assert torch.equal(seen[0][:, : compete.shape[1]], compete)


@promise(knobs=knobs, seed=seeds, count=st.integers(1, 3), interpolation=st.sampled_from(["zero", "linear"]))
def test_knots_bind_what_is_drawn_and_what_is_meant(name, knobs, seed, count, interpolation):
    """The middle of the box is a start that all knots can reach, so that everything lies on them.

    Splines are left out: one that has been clipped where it overshoots lies on no spline.
    """
    knobs = knobs | {"horizon": 4, "knots": count, "interpolation": interpolation}
    basis, seen = Knots(4, count, interpolation), []

    def score(actions):
        seen.append(actions.detach())
        return rough_score(seed)(actions)

    planners.make(name, **knobs).plan(score, generator=seeded(seed))
    for actions in seen:
        torch.testing.assert_close(basis.expand(basis.project(actions)), actions, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [3.0, -3.0, NAN, INF])
def test_inputs_outside_the_box_are_brought_into_it(name, value):
    seen = []

    def score(actions):
        seen.append(actions.detach())
        return actions.sum(dim=(2, 3))

    planner = planners.make(name, horizon=2, action_dim=2, samples=8)
    inputs = torch.full((1, 2, 2), value, dtype=torch.float64)  # NumPy's default type
    plan = planner.plan(score, warm_start=inputs, proposals=inputs.unsqueeze(1))
    for actions in [*seen, plan.actions]:
        assert actions.dtype == torch.float32
        assert actions.abs().max() <= 1  # which NaN is not


@pytest.mark.parametrize("name", ALL)
def test_the_inputs_are_left_alone(name):
    warm, proposals, elites = (torch.full(shape, 3.0) for shape in [(1, 2, 2), (1, 2, 2, 2), (1, 3, 2, 2)])
    planner = planners.make(name, horizon=2, action_dim=2, samples=8, remember=2)
    nothing = torch.zeros(1)
    plan = Plan(warm, nothing, torch.ones(1, 2, 2), 1, 1, nothing == 0, nothing, elites)
    for start in (warm, plan):
        planner.plan(lambda a: a.sum(dim=(2, 3)), warm_start=start, proposals=proposals)
    for given_tensor in (warm, proposals, elites):
        assert (given_tensor == 3).all()


@pytest.mark.parametrize("name", ALL)
def test_finds_the_optimum_of_a_bowl(name):
    goal = torch.tensor([0.4, -0.7])
    planner = planners.make(name, horizon=2, action_dim=2, samples=512, iterations=8)
    plan = planner.plan(bowl(goal), generator=seeded(0))
    assert plan.value[0] > 0.05 * -2 * (goal**2).sum()  # at least 95 % of the gap is closed


# Bad scores.


@promise(knobs=knobs, seed=seeds, bad=bads)
def test_bad_scores_never_win(name, knobs, seed, bad):
    """Half of the box scores badly; the plan comes from the other half, though the finite scores there are tiny."""

    def score(actions):
        first = actions[:, :, 0, 0]
        return torch.where(first > 0, torch.full_like(first, bad), -1e6 + first)

    warm = torch.full((1, knobs["horizon"], knobs["action_dim"]), -0.5)
    plan = planners.make(name, **knobs).plan(score, warm_start=warm, generator=seeded(seed))
    assert plan.valid.all()
    assert torch.isfinite(plan.value).all()
    assert plan.actions[0, 0, 0] <= 0
    assert torch.isfinite(plan.std).all()


@promise(knobs=knobs, seed=seeds, bad=bads)
def test_scores_poisoned_here_and_there_disturb_nothing_else(name, knobs, seed, bad):
    """Every third candidate scores badly, whatever it is; the plan is one of the others, or none."""
    good = rough_score(seed)

    def score(actions):
        poisoned = torch.arange(actions.shape[1]) % 3 == 1
        return torch.where(poisoned, bad, good(actions))

    plan = planners.make(name, **knobs).plan(score, batch=2, generator=seeded(seed))
    assert plan.valid.all()
    torch.testing.assert_close(good(plan.actions.unsqueeze(1))[:, 0], plan.value, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(plan.std).all()


@promise(knobs=knobs, seed=seeds, bad=bads, warm=st.sampled_from(["none", "actions", "plan"]))
def test_all_scores_bad_gives_the_warm_start_flagged(name, knobs, seed, bad, warm):
    """One environment of two has only bad scores; the other is not disturbed."""

    def score(actions):
        values = rough_score(seed)(actions)
        return torch.cat([torch.full_like(values[:1], bad), values[1:]])

    earlier = warm_plan(knobs, 2, seed, 3)
    start = {"none": None, "actions": earlier.actions, "plan": earlier}[warm]
    plan = planners.make(name, **knobs).plan(score, batch=2, warm_start=start, generator=seeded(seed))
    assert plan.valid.tolist() == [False, True]
    expected = torch.zeros_like(earlier.actions[0]) if warm == "none" else earlier.actions[0]
    assert torch.equal(plan.actions[0], expected)
    assert plan.value[0] == -INF
    assert torch.isfinite(plan.value[1])
    for tensor in (plan.actions, plan.std, plan.actions if plan.elites is None else plan.elites):
        assert torch.isfinite(tensor).all()


@promise(knobs=knobs, seed=seeds, bad=bads)
def test_bad_scores_of_one_environment_change_nothing_for_another(name, knobs, seed, bad):
    good = rough_score(seed)

    def score(actions):
        values = good(actions)
        return torch.cat([torch.full_like(values[:1], bad), values[1:]])

    planner = planners.make(name, **knobs)
    together, alone = planner.plan(score, batch=2, generator=seeded(seed)), planner.plan(good, generator=seeded(seed))
    torch.testing.assert_close(together.actions[1], alone.actions[0], atol=1e-4, rtol=1e-4)


# The same answer, whatever has nothing to do with it.


@promise(knobs=knobs, batch=batches, seed=seeds)
def test_same_inputs_and_generator_same_plan(name, knobs, batch, seed):
    planner, warm = planners.make(name, **knobs), warm_plan(knobs, batch, seed, 3)
    one = planner.plan(rough_score(seed), batch, warm, generator=seeded(seed))
    torch.rand(3)  # global randomness plays no part
    np.random.rand(3)  # noqa: NPY002
    planner.plan(rough_score(seed + 1), batch, generator=seeded(seed + 1))  # nor does what was planned before
    assert_same(one, planner.plan(rough_score(seed), batch, warm, generator=seeded(seed)))
    assert_same(one, planners.make(name, **knobs).plan(rough_score(seed), batch, warm, generator=seeded(seed)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("generator", [None, 3])
def test_global_randomness_is_neither_used_nor_moved(name, generator):
    planner = planners.make(name, horizon=3, action_dim=2, samples=12)
    draws = lambda: None if generator is None else seeded(generator)  # noqa: E731
    # The type checks of these tests draw from `random`, so that only its use can be told, not its state.
    states = lambda: (torch.get_rng_state().tolist(), repr(np.random.get_state()))  # noqa: E731, NPY002
    one = planner.plan(rough_score(0), generator=draws())
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002
    random.random()
    before = states()
    assert_same(one, planner.plan(rough_score(0), generator=draws()))
    assert states() == before


@pytest.mark.parametrize("name", ALL)
def test_the_generator_matters(name):
    planner = planners.make(name, horizon=3, action_dim=2, samples=12)
    one, two = (planner.plan(rough_score(0), generator=seeded(seed)) for seed in (0, 1))
    assert not torch.equal(one.actions, two.actions)


@promise(knobs=knobs, seed=seeds)
def test_an_environment_is_planned_for_alike_whatever_shares_its_batch(name, knobs, seed):
    planner, warm = planners.make(name, **knobs), warm_plan(knobs, 3, seed, 2)
    goals = uniform(seed + 2, 3, 1, 1, knobs["action_dim"])
    together = planner.plan(bowl(goals), 3, warm, generator=seeded(seed))
    for i in range(3):
        parts = ("actions", "value", "std", "valid", "stakes", "elites")
        own = replace(warm, **{part: getattr(warm, part)[i : i + 1] for part in parts})
        alone = planner.plan(bowl(goals[i : i + 1]), 1, own, generator=seeded(seed))
        torch.testing.assert_close(together.actions[i], alone.actions[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.std[i], alone.std[0], atol=1e-4, rtol=1e-3)


def permuted(cls, seed: int):
    """The same planner, with its candidates in another order."""

    def order(drawn: Tensor) -> Tensor:
        return torch.randperm(drawn.shape[1], generator=seeded(seed))

    class Permuted(cls):
        def init(self, start, generator):
            search = super().init(start, generator)
            # Climbers go on from where they stood, each with its own memory: the order is theirs from the start on.
            if isinstance(search, planners.gradient.Climb):
                search = replace(search, points=search.points[:, order(search.points)])
            return search

        def sample(self, search, iteration, generator):
            drawn = super().sample(search, iteration, generator)
            if isinstance(search, planners.gradient.Climb):
                return drawn
            if isinstance(search, planners.cmaes.Evolution):
                # Strategies are told of the candidates that they asked about, in the order of the scores.
                search.asked = [[asked[i] for i in order(drawn)] for asked in search.asked]
            return drawn[:, order(drawn)]

    return Permuted


@promise(knobs=knobs, seed=seeds)
def test_the_order_of_the_candidates_changes_nothing(name, knobs, seed):
    if name == "cmaes":  # of fewer candidates than six, cma mirrors some by their places
        knobs = knobs | {"samples": max(knobs["samples"], 6)}
    planner = planners.make(name, **knobs)
    other = permuted(type(planner), seed)(planner.config)
    score = bowl(uniform(seed, knobs["horizon"], knobs["action_dim"]))
    one, two = (p.plan(score, batch=2, generator=seeded(seed)) for p in (planner, other))
    torch.testing.assert_close(one.actions, two.actions, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.value, two.value, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.std, two.std, atol=1e-4, rtol=1e-3)


# Deadlines.


@pytest.mark.parametrize("name", ALL)
def test_a_deadline_is_kept_within_an_iteration(name):
    def slow(actions):
        time.sleep(0.02)
        return actions.sum(dim=(2, 3))

    warm = torch.full((1, 3, 2), 0.9)
    planner = planners.make(name, horizon=3, action_dim=2, samples=16, iterations=500)
    began = time.monotonic()
    plan = planner.plan(slow, warm_start=warm, deadline=began + 0.1, generator=seeded(0))
    # The mean's own score comes on top of the iterations, and a busy machine oversleeps.
    assert time.monotonic() - began < 0.4
    assert 1 <= plan.iterations < 20
    assert plan.value[0] >= warm.sum()


class Clock:
    """A clock that only a score moves, by a second every time."""

    def __init__(self, monkeypatch):
        self.now, self.values = 0.0, []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def __call__(self, actions):
        self.now += 1
        self.values.append(rough_score(0)(actions))
        return self.values[-1]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("deadline", "iterations"), [(3.5, 3), (2.9, 2), (1.5, 1), (0.5, 1), (-1.0, 1), (100.0, 6)])
def test_an_iteration_is_begun_only_where_it_would_probably_end_in_time(name, deadline, iterations, monkeypatch):
    score = Clock(monkeypatch)
    plan = planners.make(name, horizon=2, action_dim=2, samples=12, iterations=6).plan(score, deadline=deadline)
    assert plan.iterations == iterations
    assert score.now <= max(deadline, 1) + 1
    if deadline < 1:  # too late to look at anything else than the best candidate
        assert len(score.values) == 1
        assert plan.value == score.values[0].max()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("execute", ["mean", "best"])
@pytest.mark.parametrize("deadline", [-1.0, 0.5, 1.5, 2.5])
def test_under_a_deadline_the_plan_is_the_best_so_far_and_no_worse_than_the_warm_start(
    name, execute, deadline, monkeypatch
):
    for seed in range(5):
        score, warm = Clock(monkeypatch), uniform(seed, 1, 3, 2)
        planner = planners.make(name, horizon=3, action_dim=2, samples=4, iterations=6, execute=execute)
        plan = planner.plan(score, warm_start=warm, deadline=deadline, generator=seeded(seed))
        floor = rough_score(0)(warm.unsqueeze(1))
        assert plan.value >= floor - 1e-5
        torch.testing.assert_close(rough_score(0)(plan.actions.unsqueeze(1))[:, 0], plan.value, atol=1e-4, rtol=1e-4)
        if execute == "best" or deadline < 1:
            assert plan.value == torch.cat(score.values, dim=1).max()


@pytest.mark.parametrize("name", ALL)
def test_a_deadline_in_the_past_still_gives_a_plan(name):
    planner = planners.make(name, horizon=2, action_dim=2, samples=8)
    plan = planner.plan(lambda a: a.sum(dim=(2, 3)), deadline=time.monotonic() - 1, generator=seeded(0))
    assert plan.iterations == 1
    assert plan.valid.all()


# Manners.


FLAT = lambda a: 0 * a.sum(dim=(2, 3))  # noqa: E731
BROKEN = lambda a: NAN * a.sum(dim=(2, 3))  # noqa: E731
STEEP = lambda a: 1e30 * a.sum(dim=(2, 3))  # noqa: E731
HALF_BROKEN = lambda a: torch.where(a[..., 0, 0] > 0, NAN, a.sum(dim=(2, 3)))  # noqa: E731


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("score", [rough_score(0), FLAT, BROKEN, HALF_BROKEN, STEEP])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"horizon": 1, "action_dim": 1},
        {"samples": 1, "elites": 1},
        {"horizon": 4, "knots": 2, "noise_beta": 2.0},
        {"iterations": 12, "initial_std": 2.0},
    ],
)
def test_silent_without_warnings_or_gradients(name, score, knobs, capfd):
    weight = torch.ones(2, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not planners.get(name).colours_noise:
            knobs = knobs | {"noise_beta": 0.0}
        planner = planners.make(name, **{"horizon": 2, "action_dim": 2, "samples": 8, "iterations": 3} | knobs)
        plan = planner.plan(lambda a: weight.prod() * score(a), warm_start=torch.ones(1, *_shape(planner)))
    assert capfd.readouterr() == ("", "")
    assert not any(part.requires_grad for part in (plan.actions, plan.value, plan.std))
    assert weight.grad is None
    assert plan.actions.abs().max() <= 1


def _shape(planner):
    return planner.config.horizon, planner.config.action_dim


@pytest.mark.parametrize("name", ALL)
def test_inference_mode_is_no_hindrance_unless_gradients_are_needed(name):
    planner, warm = planners.make(name, horizon=2, action_dim=2, samples=12, remember=2), uniform(0, 1, 2, 2)
    expected = planner.plan(rough_score(0), warm_start=warm, generator=seeded(0))
    if planner.differentiates:
        with torch.inference_mode(), pytest.raises(PlannerError, match="gradient"):
            planner.plan(rough_score(0), warm_start=warm, generator=seeded(0))
        return
    with torch.inference_mode():
        inside = planner.plan(rough_score(0), warm_start=warm, generator=seeded(0))
    assert_same(expected, inside)
    # What came out of there is a warm start like any other, and a score may use the mode on its own.
    again = planner.plan(torch.inference_mode()(rough_score(0)), warm_start=inside.shift(), generator=seeded(1))
    assert_same(again, planner.plan(rough_score(0), warm_start=expected.shift(), generator=seeded(1)))


@pytest.mark.parametrize("name", ALL)
def test_scores_of_other_types_will_do(name):
    """Double precision, as from NumPy, and half, as from a quantised model."""
    planner = planners.make(name, horizon=2, action_dim=2, samples=12)
    for dtype in (torch.float64, torch.float16):
        plan = planner.plan(lambda a, dtype=dtype: bowl(0.5)(a).to(dtype), generator=seeded(0))
        assert plan.valid.all()
        assert plan.actions.dtype == torch.float32
        assert plan.value >= -1
