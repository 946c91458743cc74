"""Answers to many in one call are those that each would get alone."""

import copy
from dataclasses import replace

import pytest
import torch

from agent import Agent, AgentInfo, DivergedError, Learner
from agent.losses import Lesson
from agent.many.answers import Answers
from agent.many.padding import cut, stack
from agent.many.requests import Propose, Rate, Update
from tests.agent.many.test_runs import CONFIG
from tests.agent.toy import shake

VARIANTS = {
    "tiny": {},
    "blocks": {"model": {"encoder_blocks": 1}},
    "own reward": {"model": {"reward_head": "own"}},
    "three values": {"model": {"value_heads": 3}, "learner": {"returns": "single", "slow_encoder": False}},
}
SIZES = [(5, 2, False, ()), (7, 3, False, (2, 4)), (4, 1, True, ()), (5, 2, True, (0,)), (6, 1, False, ())]


def agents(variant="tiny"):
    changes = VARIANTS[variant]
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, **changes.get("model", {})),
        learner=replace(CONFIG.learner, **changes.get("learner", {})),
    )
    made = []
    for i, (observations, actions, terminates, angles) in enumerate(SIZES):
        info = AgentInfo("toy", 1, 20 * (i + 1), terminates, angles)  # the discount is another for each
        agent = Agent(config, observations, actions, info, "cpu", seed=i)
        shake(agent.model, 0.2)
        agent.model.norm.update(torch.randn(50, observations, generator=agent.generator) * 3 + 1)
        made.append(agent)
    return made


def lesson(agent):
    generator, model = torch.Generator().manual_seed(3), agent.model
    mask = torch.ones(3, 16)
    mask[1:, 5] = mask[2, 9] = 0
    terminated = torch.zeros(3, 16)
    if model.continuation is not None:
        terminated[2, 3] = 1
    return Lesson(
        torch.randn(4, 16, model.observation_dim, generator=generator) * 2,
        torch.rand(3, 16, model.action_dim, generator=generator) * 2 - 1,
        torch.randn(3, 16, generator=generator),
        terminated,
        mask,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_proposals_and_scores_of_many_are_those_of_each(variant):
    answers = Answers()
    made = agents(variant)
    asked = [
        Propose(agent.model, torch.randn(1, agent.model.observation_dim), agent._proposal_noise()) for agent in made
    ]
    rates = []
    for request, (latent, proposals) in zip(asked, answers(asked), strict=True):
        expected = request.alone()
        assert torch.allclose(latent, expected[0], atol=1e-5)
        assert torch.allclose(proposals, expected[1], atol=1e-5)
        assert proposals.shape[-1] == request.model.action_dim
        rates.append(Rate(request.model, latent, proposals, "mean"))
    for request, values in zip(rates, answers(rates), strict=True):
        assert torch.allclose(values, request.alone(), rtol=1e-4, atol=1e-5)
    bare = [replace(request, noise=None) for request in asked]
    for request, (latent, proposals) in zip(bare, answers(bare), strict=True):
        assert proposals is None
        assert torch.allclose(latent, request.alone()[0], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_of_many_are_those_of_each(variant):
    together, alone = (
        [
            Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(i))
            for i, agent in enumerate(agents(variant))
        ]
        for _ in "ab"
    )
    lessons, answers = [lesson(agent) for agent in agents(variant)], Answers()
    for _ in range(4):
        asked = [Update(each, x, each._noise(3, 16)) for each, x in zip(together, lessons, strict=True)]
        found = answers(asked)
        for learner, x, mine in zip(alone, lessons, found, strict=True):
            expected = learner.learn(x, learner._noise(3, 16))
            assert mine.metrics.keys() == expected.metrics.keys()
            for name, value in expected.metrics.items():
                assert torch.allclose(mine.metrics[name], value, rtol=1e-4, atol=1e-5), name
            assert torch.allclose(mine.errors, expected.errors, rtol=1e-4, atol=1e-4)
    for one, other in zip(together, alone, strict=True):
        theirs = other.model.state_dict() | other.state()
        for name, x in (one.model.state_dict() | one.state()).items():
            close = (x.double() - theirs[name].double()).abs()
            # Where a gradient is all rounding, Adam makes a whole step of it.
            assert close.mean() < 1e-6, name
            assert close.max() < 2e-3, name


def test_a_learner_that_diverges_leaves_the_others_alone():
    made = [agent for agent in agents() if agent.model.continuation is None]
    learners = [Learner(agent.model, agent.config.learner, torch.Generator().manual_seed(1)) for agent in made]
    with torch.no_grad():
        made[1].model.dynamics[0].bias[0] = torch.nan
    before = copy.deepcopy([agent.model.state_dict() for agent in made])
    answers = Answers()([Update(x, lesson(a), x._noise(3, 16)) for x, a in zip(learners, made, strict=True)])
    assert [isinstance(answer, DivergedError) for answer in answers] == [False, True, False]
    for agent, old, diverges in zip(made, before, (False, True, False), strict=True):
        weight = agent.model.dynamics[3].weight
        assert torch.equal(weight, old["dynamics.3.weight"]) == diverges
        assert torch.isfinite(weight).all()


def test_stacks_are_made_anew_when_a_model_has_learned():
    made, answers = agents()[:2], Answers()
    asked = [Propose(agent.model, torch.ones(1, agent.model.observation_dim), None) for agent in made]
    first = answers(asked)
    assert len(answers._current) == 1
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, answers(asked), strict=True))
    Learner(made[0].model, made[0].config.learner, torch.Generator()).learn(
        lesson(made[0]), Learner(made[0].model, made[0].config.learner, torch.Generator())._noise(3, 16)
    )
    made[1].model.norm.update(torch.randn(9, made[1].model.observation_dim))
    for request, before, after in zip(asked, first, answers(asked), strict=True):
        assert not torch.equal(before[0], after[0])
        assert torch.allclose(after[0], request.alone()[0], atol=1e-5)


def test_padding_and_back():
    tensors = [torch.randn(4, 3, 2), torch.randn(6, 1, 5)]
    for halves in (False, True):
        stacked = stack(tensors, halves)
        assert stacked.shape == (2, 6, 3, 5)
        assert stacked.abs().sum() == pytest.approx(sum(float(x.abs().sum()) for x in tensors))
        for row, x in zip(stacked, tensors, strict=True):
            assert torch.equal(cut(row, x, halves), x)
    assert not torch.equal(stack(tensors), stack(tensors, halves=True))
