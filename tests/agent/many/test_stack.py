"""What is computed for many in one call is what each would compute alone."""

import multiprocessing
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import planners
from agent import Agent, AgentInfo, DivergedError, Learner
from agent.engine import Engine
from agent.experience import Batch
from agent.many.desk import Sizes, deviates
from agent.many.host import Host
from agent.many.layout import Layout
from agent.many.networks import Shape
from agent.many.padding import cut, pad
from agent.many.seat import Seat
from agent.many.waiting import Bells
from planners import registry
from tests.agent.many.runs import CONFIG
from tests.agent.toy import shake

VARIANTS = {
    "tiny": {},
    "own reward": {
        "model": {"reward_head": "own"},
        "learner": {"contrast_weight": 0.0, "imitation_temperature": None},
    },
    "three values": {"model": {"value_heads": 3}, "learner": {"returns": "single", "slow_encoder": False}},
}
SIZES = [(5, 2, False, ()), (7, 3, False, (2, 4)), (4, 1, True, ()), (5, 2, True, (0,)), (6, 1, False, ())]


def configured(variant="tiny"):
    changes = VARIANTS[variant]
    return replace(
        CONFIG,
        model=replace(CONFIG.model, **changes.get("model", {})),
        learner=replace(CONFIG.learner, **changes.get("learner", {})),
    )


def agents(variant="tiny", sizes=SIZES):
    made = []
    for i, (observations, actions, terminates, angles) in enumerate(sizes):
        info = AgentInfo("toy", 1, 20 * (i + 1), terminates, angles)  # the discount is another for each
        agent = Agent(configured(variant), observations, actions, info, "cpu", seed=i)
        shake(agent.model, 0.2)
        agent.model.norm.update(torch.randn(50, observations, generator=agent.generator) * 3 + 1)
        made.append(agent)
    return made


def learners(made):
    return [
        Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(i)) for i, agent in enumerate(made)
    ]


def batch(agent):
    generator, model = torch.Generator().manual_seed(3), agent.model
    mask = torch.ones(3, 16)
    mask[1:, 5] = mask[2, 9] = 0
    terminated = torch.zeros(3, 16)
    if model.continuation is not None:
        terminated[2, 3] = 1
    return Batch(
        torch.randn(4, 16, model.observation_dim, generator=generator) * 2,
        torch.rand(3, 16, model.action_dim, generator=generator) * 2 - 1,
        torch.randn(3, 16, generator=generator),
        terminated,
        mask,
        np.arange(16),
        np.full(16, 1 / 16),
    )


def at_desks(config, scripts, device="cpu"):
    """Runs each script, given its engine, on a thread of its own, and serves them; what they return or raise."""
    context = multiprocessing.get_context("spawn")
    bells = Bells(context.Semaphore(0), [context.Semaphore(0) for _ in scripts])
    host = Host(config, torch.device(device), bells)
    found = [None] * len(scripts)

    def live(number):
        def sit(shape):
            host.introduce(number, shape)
            return host.place(number)

        try:
            found[number] = scripts[number](Seat(sit, config, bells.asked, bells.answered[number]))
        except Exception as error:
            found[number] = error
        finally:
            host.leave(number)

    threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(len(scripts))]
    for thread in threads:
        thread.start()
    host.serve()
    for thread in threads:
        thread.join(10)
    if host.error is not None:
        raise host.error
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_proposals_and_scores_of_many_are_those_of_each(variant):
    made = agents(variant)

    def script(agent):
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(1, agent.model.observation_dim, generator=generator)
        noise = agent.model.proposal_noise(4, 3, generator)
        # As many as there are places for, fewer, and more.
        candidates = [torch.rand(1, n, 3, agent.model.action_dim, generator=generator) * 2 - 1 for n in (1, 7, 60)]

        def plan(engine):
            latent, proposals = engine.propose(agent.model, x, noise)
            bare = engine.propose(agent.model, x, None)
            assert bare[1] is None
            assert torch.equal(bare[0], latent)
            score = engine.score(agent.model, latent, agent.planning)
            return latent, proposals, *(score(each) for each in candidates)

        return plan, x, noise, candidates

    scripts = [script(agent) for agent in made]
    found = at_desks(configured(variant), [plan for plan, *_ in scripts])
    for agent, mine, (_, x, noise, candidates) in zip(made, found, scripts, strict=True):
        if isinstance(mine, Exception):
            raise mine
        with torch.inference_mode():
            latent = agent.model.encode(x)
            expected = latent, agent.model.follow_policy(latent, noise)
            assert torch.allclose(mine[0], expected[0], atol=1e-5)
            assert torch.allclose(mine[1], expected[1], atol=1e-5)
            for each, values in zip(candidates, mine[2:], strict=True):
                alone = Engine().score(agent.model, latent, agent.planning)(each)
                assert torch.allclose(values, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_of_many_are_those_of_each(variant):
    batches = [batch(agent) for agent in agents(variant)]
    together, alone = learners(agents(variant)), learners(agents(variant))

    def script(learner, x):
        def learn(engine):
            learned = [engine.update(learner, x) for _ in range(2)]
            engine.settle()  # in the midst, which must make no difference
            learned += [engine.update(learner, x) for _ in range(2)]
            engine.settle()
            return learned

        return learn

    found = at_desks(configured(variant), [script(*each) for each in zip(together, batches, strict=True)])
    for learner, x, mine in zip(alone, batches, found, strict=True):
        if isinstance(mine, Exception):
            raise mine
        for each in mine:
            expected = learner.update(x)
            assert each.metrics.keys() == expected.metrics.keys()
            for name, value in expected.metrics.items():
                assert torch.allclose(each.metrics[name], value, rtol=1e-4, atol=1e-5), name
            assert torch.allclose(each.errors, expected.errors, rtol=1e-4, atol=1e-4)
    for one, other in zip(together, alone, strict=True):
        theirs = other.model.state_dict() | other.state()
        for name, x in (one.model.state_dict() | one.state()).items():
            close = (x.double() - theirs[name].double()).abs()
            # Where a gradient is all rounding, Adam makes a whole step of it.
            assert close.mean() < 1e-6, name
            assert close.max() < 2e-3, name


def test_a_learner_goes_on_alone_where_it_was_with_others():
    together, alone = learners(agents()), learners(agents())
    batches = [batch(agent) for agent in agents()]

    def script(learner, x):
        def learn(engine):
            engine.update(learner, x)
            engine.settle()

        return learn

    at_desks(CONFIG, [script(*each) for each in zip(together, batches, strict=True)])
    for one, other, x in zip(together, alone, batches, strict=True):
        other.update(x)
        for mine, theirs in zip(one.update(x).errors, other.update(x).errors, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slope", [False, True])
def test_a_learner_that_diverges_leaves_the_others_alone(slope):
    """By what it is to learn from, or by a gradient that overflows."""
    made = learners(agents(sizes=SIZES[:2] * 2))
    batches = [batch(agent) for agent in agents(sizes=SIZES[:2] * 2)]
    if slope:
        with torch.no_grad():
            made[1].model.reward[-1].weight.fill_(1e30)
    else:
        batches[1].rewards[0, 0] = torch.nan
    before = [{name: x.clone() for name, x in each.model.state_dict().items()} for each in made]

    def script(learner, x):
        def learn(engine):
            try:
                return engine.update(learner, x)
            finally:
                engine.settle()

        return learn

    found = at_desks(CONFIG, [script(*each) for each in zip(made, batches, strict=True)])
    assert isinstance(found[1], DivergedError)
    for i, learner in enumerate(made):
        same = [torch.equal(x, before[i][name]) for name, x in learner.model.state_dict().items()]
        assert all(same) == (i == 1)
        assert all(torch.isfinite(x).all() for x in learner.model.state_dict().values())


def test_a_model_that_was_changed_is_seen_anew():
    made = agents(sizes=SIZES[:1] * 2)
    x = torch.randn(1, 5)

    def script(agent):
        def plan(engine):
            first = engine.propose(agent.model, x, None)[0]
            with torch.no_grad():
                for parameter in agent.model.encoder.parameters():
                    parameter.mul_(1.5)
            return first, engine.propose(agent.model, x, None)[0]

        return plan

    for agent, found in zip(made, at_desks(CONFIG, [script(agent) for agent in made]), strict=True):
        first, second = found
        assert not torch.allclose(first, second, atol=1e-4)
        assert torch.allclose(second, agent.model.encode(x), atol=1e-5)


@pytest.mark.parametrize("changes", [{"bootstrap": "last"}, {"pessimism": 1.0}, {"horizon": 2}, {"horizon": 5}])
def test_another_search_than_that_of_all_is_computed_apart(changes):
    made = agents(sizes=SIZES[:1] * 2)
    planning = CONFIG.planning.changed(**changes)
    x = torch.randn(1, 5)
    candidates = torch.rand(1, 7, planning.horizon, 2) * 2 - 1

    def script(agent):
        noise = agent.model.proposal_noise(3, planning.horizon, torch.Generator().manual_seed(0))

        def plan(engine):
            with torch.inference_mode():
                latent, proposals = engine.propose(agent.model, x, noise)
                return proposals, engine.score(agent.model, latent, planning)(candidates)

        return plan

    scripts = [script(agent) for agent in made]
    for plan, found in zip(scripts, at_desks(CONFIG, scripts), strict=True):
        if isinstance(found, Exception):
            raise found
        for mine, alone in zip(found, plan(Engine()), strict=True):
            assert torch.allclose(mine, alone, atol=1e-5)


def test_nothing_is_kept_for_plans_that_are_not_made_as_a_whole():
    shape = Shape.of(agents(sizes=SIZES[:1])[0].model, True)

    def kept(**changes):
        return deviates(Sizes(1, shape, replace(CONFIG, planning=CONFIG.planning.changed(**changes))))

    assert kept() is not None
    assert kept(budget_ms=20.0) is None
    assert kept(planner="policy") is None
    assert kept(planner="cem") is not None

    @planners.register("begins-at-random")
    class BeginsAtRandom(planners.CEM):
        def init(self, start, generator):
            return super().init(start + torch.randn(start.shape[1:], generator=generator), generator)

    try:
        assert kept(planner="begins-at-random") is None
    finally:
        del registry._planners["begins-at-random"]


def test_a_computation_that_fails_is_told_to_all(monkeypatch):
    made = agents(sizes=SIZES[:1] * 2)
    monkeypatch.setattr("agent.many.stack.Stack.propose", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        at_desks(
            CONFIG, [lambda engine, agent=agent: engine.propose(agent.model, torch.zeros(1, 5), None) for agent in made]
        )


def test_a_row_holds_a_learner():
    small, large = learners(agents(sizes=[(4, 1, False, ())])), learners(agents(sizes=[(7, 3, False, ())]))
    shape = Shape.of(small[0].model, True).padded([Shape.of(large[0].model, True)])
    layout = Layout(shape)
    row = torch.randn(layout.width)
    for one in (*small, *large):
        one.update(
            batch(Agent(CONFIG, one.model.observation_dim, one.model.action_dim, AgentInfo("toy", 1, 20, False)))
        )
        before = {name: x.clone() for name, x in (one.model.state_dict() | one.state()).items()}
        layout.write(one, row)
        shake(one.model)
        one.value_scale.zero_()
        layout.read(row, one)
        for name, x in (one.model.state_dict() | one.state()).items():
            assert torch.equal(x, before[name]), name


def test_padding_is_cut_off_again():
    x = torch.arange(6.0).view(2, 3)
    assert torch.equal(cut(pad(x, (4, 5)), x), x)
    assert pad(x, (4, 5)).sum() == x.sum()
    halves = pad(x, (4, 3), halves=True)
    assert torch.equal(halves[:, 0], torch.tensor([0.0, 0, 3, 0]))
    assert torch.equal(cut(halves, x, halves=True), x)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"planner": "cem", "proposals": 0},
        {"planner": "icem"},
        {"knots": 2},
        {"pessimism": 0.7},
    ],
)
def test_plans_of_many_are_those_of_each(changes):
    config = replace(CONFIG, planning=CONFIG.planning.changed(**changes))
    made, alone = agents(), agents()

    def script(agent):
        agent.use_planner(config.planning)
        x = np.random.default_rng(1).normal(size=(3, agent.model.observation_dim)).astype(np.float32)

        def plan(engine):
            agent.engine = engine
            return [(agent.act(each), agent.last_plan) for each in x]

        return plan

    scripts, expected = [script(agent) for agent in made], [script(agent) for agent in alone]
    for mine, theirs in zip(at_desks(config, scripts), expected, strict=True):
        if isinstance(mine, Exception):
            raise mine
        for (action, plan), (other_action, other) in zip(mine, theirs(Engine()), strict=True):
            assert np.allclose(action, other_action, atol=1e-4)
            assert (plan.evaluations, plan.iterations) == (other.evaluations, other.iterations)
            for name in ("actions", "std", "value", "valid", "stakes"):
                assert torch.allclose(getattr(plan, name).float(), getattr(other, name).float(), atol=1e-3), name
