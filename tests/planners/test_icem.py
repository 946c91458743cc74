"""What tells iCEM from CEM."""

import pytest
import torch

import planners
from tests.planners.toy import bowl, rough_score, seeded, uniform


class Record:
    """A score that keeps what it was asked about."""

    def __init__(self, score):
        self.score, self.seen = score, []

    def __call__(self, actions):
        self.seen.append(actions)
        return self.score(actions)


def test_the_population_shrinks():
    """40, 32 and 25 candidates, 97 in all, and what there is to begin with."""
    planner, score = planners.make("icem", horizon=5, action_dim=2, iterations=3), Record(rough_score(0))
    plan = planner.plan(score, warm_start=uniform(0, 1, 5, 2), proposals=uniform(1, 1, 2, 5, 2))
    assert [actions.shape[1] for actions in score.seen] == [1 + 2 + 40, 32, 25]
    assert plan.evaluations == 97 + 3


@pytest.mark.parametrize(
    ("knobs", "sizes"),
    [
        ({"decay": 1.0}, [40] * 6),
        ({}, [40, 32, 25, 20, 20, 20]),
        ({"samples": 12}, [12] * 6),
        ({"elites": 1, "decay": 4.0}, [40, 10, 2, 2, 2, 2]),
    ],
)
def test_but_not_below_twice_the_elites(knobs, sizes):
    planner = planners.make("icem", horizon=2, action_dim=1, iterations=6, **knobs)
    search = planner.init(torch.zeros(1, 2, 1), seeded(0))
    assert [planner.sample(search, i, seeded(0)).shape[1] for i in range(6)] == sizes


def test_the_mean_competes_in_the_last_iteration_and_in_no_other():
    planner = planners.make("icem", horizon=3, action_dim=2, iterations=3)
    search = planners.Gaussian(uniform(0, 2, 3, 2), torch.full((2, 3, 2), 0.1))
    for iteration in range(3):
        candidates = planner.sample(search, iteration, seeded(0))
        present = (candidates == search.mean.unsqueeze(1)).all(dim=(2, 3)).any(dim=1)
        assert present.tolist() == [iteration == 2] * 2
    alone = planners.make("icem", horizon=3, action_dim=2, iterations=1, samples=1)
    assert not torch.equal(alone.sample(search, 0, seeded(0))[:, 0], search.mean)


def test_elites_are_remembered_and_compete_at_the_next_decision_one_step_on():
    planner, score = planners.make("icem", horizon=4, action_dim=2), Record(rough_score(0))
    plan = planner.plan(score, generator=seeded(0))
    assert plan.elites.shape == (1, 3, 4, 2)
    assert torch.equal(plan.elites[:, 0], plan.actions)  # the best one
    values = rough_score(0)(plan.elites)[0]
    assert (values.diff() <= 0).all()
    assert len(set(values.tolist())) == 3
    score.seen.clear()
    planner.plan(score, warm_start=plan.shift(), generator=seeded(1))
    first = score.seen[0][0, :4]
    for was, now in zip([plan.actions[0], *plan.elites[0]], first, strict=True):
        assert torch.equal(now[:3], was[1:])
        assert (now[3] == 0).all()
    # Shown a world where one of them is all that is good, the planner takes it.
    treasure = first[3]
    found = planner.plan(
        lambda a: ((a - treasure).abs().amax(dim=(2, 3)) < 1e-6).float() - 1e-3 * a.abs().sum(dim=(2, 3)),
        warm_start=plan.shift(),
        generator=seeded(2),
    )
    assert torch.equal(found.actions[0], treasure)


def test_kept_elites_are_not_scored_again_but_stay_in_the_race():
    """The best of all iterations is executed, wherever it turned up."""
    for seed in range(10):
        score, values = rough_score(seed), []

        def traced(actions, score=score, values=values):
            values.append(score(actions))
            return values[-1]

        plan = planners.make("icem", horizon=3, action_dim=2).plan(traced, generator=seeded(seed))
        assert plan.value == torch.cat(values, dim=1).max()


def test_without_colour_the_noise_is_white():
    planner = planners.make("icem", horizon=6, action_dim=2, noise_beta=0.0)
    search = planners.Gaussian(uniform(0, 1, 6, 2), torch.full((1, 6, 2), 0.3))
    expected = search.mean + 0.3 * torch.randn(40, 6, 2, generator=seeded(0))
    torch.testing.assert_close(planner.sample(search, 0, seeded(0))[0], expected)
    red = planners.make("icem", horizon=6, action_dim=2).sample(search, 0, seeded(0))[0]
    assert not torch.allclose(red, expected, atol=0.1)


def test_a_horizon_of_one_has_white_noise_and_works():
    planner = planners.make("icem", horizon=1, action_dim=3, samples=200, iterations=5)
    plan = planner.plan(bowl(torch.tensor([0.3, -0.5, 0.9])), generator=seeded(0))
    assert plan.value > -0.01
    wide = planners.make("icem", horizon=1, action_dim=3, samples=20_000)
    drawn = wide.sample(wide.init(torch.zeros(1, 1, 3), seeded(0)), 0, seeded(0))[0, :, 0]
    assert (drawn.std(0) / 0.5 - 1).abs().max() < 0.03


def test_decay_must_make_sense():
    with pytest.raises(planners.PlannerError, match=r"decay is 0\.9"):
        planners.make("icem", horizon=1, action_dim=1, decay=0.9)
