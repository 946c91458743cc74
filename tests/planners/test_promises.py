"""What every planner promises, tested for every planner that is registered."""

import contextlib
import io
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import planners

ALL = planners.names()
NAN, INF = float("nan"), float("inf")

sizes = st.fixed_dictionaries(
    {
        "horizon": st.integers(1, 4),
        "action_dim": st.integers(1, 3),
        "samples": st.integers(1, 24),
        "iterations": st.integers(1, 3),
        "elites": st.integers(1, 30),
        "keep": st.integers(1, 4),
        "execute": st.sampled_from(["mean", "best"]),
    }
)
seeds = st.integers(0, 2**31)
batches = st.integers(1, 3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rough_score(seed: int):
    """A score with many hills: sums of random waves."""
    phase = torch.rand(5, generator=seeded(seed)) * 6

    def score(actions: Tensor) -> Tensor:
        x = actions.sum(dim=(2, 3)).unsqueeze(-1) + (actions**2).sum(dim=(2, 3)).unsqueeze(-1)
        return torch.sin(3 * x * torch.arange(1.0, 6) + phase).sum(-1)

    return score


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, batch=batches, seed=seeds)
def test_every_action_scored_or_returned_is_in_the_box(name, knobs, batch, seed):
    seen = []

    def score(actions):
        seen.append(actions)
        return rough_score(seed)(actions)

    plan = planners.make(name, **knobs).plan(score, batch, generator=seeded(seed))
    assert seen
    for actions in [*seen, plan.actions]:
        assert actions.abs().max() <= 1
    assert plan.actions.shape == (batch, knobs["horizon"], knobs["action_dim"])
    assert plan.value.shape == plan.valid.shape == (batch,)
    assert plan.evaluations == sum(actions.shape[1] for actions in seen)
    assert plan.iterations == knobs["iterations"]


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, batch=batches, seed=seeds, proposed=st.integers(1, 4))
def test_never_worse_than_the_warm_start_or_a_proposal(name, knobs, batch, seed, proposed):
    shape = (knobs["horizon"], knobs["action_dim"])
    warm = torch.rand(batch, *shape, generator=seeded(seed)) * 2 - 1
    proposals = torch.rand(batch, proposed, *shape, generator=seeded(seed + 1)) * 2 - 1
    score = rough_score(seed)
    plan = planners.make(name, **knobs).plan(score, batch, warm_start=warm, proposals=proposals, generator=seeded(seed))
    floor = torch.maximum(score(warm.unsqueeze(1))[:, 0], score(proposals).amax(1))
    assert (plan.value >= floor - 1e-5).all()
    torch.testing.assert_close(score(plan.actions.unsqueeze(1))[:, 0], plan.value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, batch=batches, seed=seeds)
def test_same_inputs_and_generator_same_plan(name, knobs, batch, seed):
    planner = planners.make(name, **knobs)
    one = planner.plan(rough_score(seed), batch, generator=seeded(seed))
    torch.rand(3)  # global randomness plays no part
    two = planner.plan(rough_score(seed), batch, generator=seeded(seed))
    assert torch.equal(one.actions, two.actions)
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.std, two.std)


@pytest.mark.parametrize("name", ALL)
def test_without_a_generator_global_randomness_plays_no_part(name):
    planner, before = planners.make(name, horizon=2, action_dim=2), torch.get_rng_state()
    one = planner.plan(rough_score(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(planner.plan(rough_score(0)).actions, one.actions)


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, seed=seeds, bad=st.sampled_from([NAN, INF, -INF]))
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


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, seed=seeds, bad=st.sampled_from([NAN, INF, -INF]), warm=st.booleans())
def test_all_scores_bad_gives_the_warm_start_flagged(name, knobs, seed, bad, warm):
    """One environment of two has only bad scores; the other is not disturbed."""

    def score(actions):
        values = rough_score(seed)(actions)
        return torch.cat([torch.full_like(values[:1], bad), values[1:]])

    shape = (2, knobs["horizon"], knobs["action_dim"])
    start = torch.rand(shape, generator=seeded(seed)) * 2 - 1 if warm else None
    plan = planners.make(name, **knobs).plan(score, batch=2, warm_start=start, generator=seeded(seed))
    assert plan.valid.tolist() == [False, True]
    expected = start[0] if warm else torch.zeros(shape[1:])
    assert torch.equal(plan.actions[0], expected)
    assert plan.value[0] == -INF
    assert torch.isfinite(plan.value[1])
    assert torch.isfinite(plan.actions).all()


@pytest.mark.parametrize("name", ALL)
@given(knobs=sizes, seed=seeds)
def test_an_environment_is_planned_for_alike_whatever_shares_its_batch(name, knobs, seed):
    planner = planners.make(name, **knobs)
    goals = torch.rand(3, 1, 1, knobs["action_dim"], generator=seeded(seed)) * 2 - 1

    def score_for(goal):
        return lambda actions: -((actions - goal) ** 2).sum(dim=(2, 3))

    together = planner.plan(score_for(goals), batch=3, generator=seeded(seed))
    for i in range(3):
        alone = planner.plan(score_for(goals[i : i + 1]), generator=seeded(seed))
        torch.testing.assert_close(together.actions[i], alone.actions[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_finds_the_optimum_of_a_bowl(name):
    goal = torch.tensor([0.4, -0.7, 0.1])
    planner = planners.make(name, horizon=3, action_dim=3, samples=256, iterations=8)
    plan = planner.plan(lambda a: -((a - goal) ** 2).sum(dim=(2, 3)), generator=seeded(0))
    nothing = -3 * (goal**2).sum()
    assert plan.value[0] > 0.05 * nothing  # at least 95 % of the gap is closed


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


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("deadline", "iterations"), [(3.5, 3), (2.9, 2), (1.5, 1), (0.5, 1), (100.0, 6)])
def test_an_iteration_is_begun_only_where_it_would_probably_end_in_time(name, deadline, iterations, monkeypatch):
    """Every score takes a second of this clock."""
    clock, seen = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def score(actions):
        clock[0] += 1
        values = rough_score(0)(actions)
        seen.append(values)
        return values

    plan = planners.make(name, horizon=2, action_dim=2, iterations=6).plan(score, deadline=deadline)
    assert plan.iterations == iterations
    if deadline < 1:  # too late to look at anything else than the best candidate
        assert len(seen) == 1
        assert plan.value == seen[0].max()


@pytest.mark.parametrize("name", ALL)
def test_a_deadline_in_the_past_still_gives_a_plan(name):
    planner = planners.make(name, horizon=2, action_dim=2, samples=8)
    plan = planner.plan(lambda a: a.sum(dim=(2, 3)), deadline=time.monotonic() - 1, generator=seeded(0))
    assert plan.iterations == 1
    assert plan.valid.all()


@pytest.mark.parametrize("name", ALL)
def test_silent_and_without_gradients(name):
    out, err = io.StringIO(), io.StringIO()
    weight = torch.ones(2, requires_grad=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        plan = planners.make(name, horizon=2, action_dim=2).plan(lambda a: (a * weight).sum(dim=(2, 3)))
    assert out.getvalue() == err.getvalue() == ""
    assert not plan.actions.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_the_inputs_are_left_alone(name):
    warm, proposals = torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2, 2), -3.0)
    planners.make(name, horizon=2, action_dim=2).plan(lambda a: a.sum(dim=(2, 3)), warm_start=warm, proposals=proposals)
    assert (warm == 3).all()
    assert (proposals == -3).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [3.0, -3.0, NAN, INF])
def test_inputs_outside_the_box_are_brought_into_it(name, value):
    seen = []

    def score(actions):
        seen.append(actions)
        return actions.sum(dim=(2, 3))

    planner = planners.make(name, horizon=2, action_dim=2)
    inputs = torch.full((1, 2, 2), value, dtype=torch.float64)  # NumPy's default type
    plan = planner.plan(score, warm_start=inputs, proposals=inputs.unsqueeze(1))
    for actions in [*seen, plan.actions]:
        assert actions.dtype == torch.float32
        assert actions.abs().max() <= 1  # which NaN is not
