"""What cards say, from what was recorded."""

import pytest

from agent import describe
from preplay.card import card, read_metrics
from preplay.shipped import shipped

FOLDER = shipped()["walker-run"]


@pytest.mark.parametrize(
    ("planned", "prior", "said"),
    [
        ((10.0, [9.0, 11.0]), (14.0, [12.0, 16.0]), "The planner did worse here than the policy prior alone."),
        ((10.0, [7.0, 13.0]), (14.0, [12.0, 16.0]), "The planner did no better here than the policy prior alone."),
        ((10.0, [None, None]), (14.0, [None, None]), "The planner did no better here than the policy prior alone."),
        ((14.0, [12.0, 16.0]), (10.0, [9.0, 11.0]), None),
    ],
)
def test_a_planner_that_does_not_pay_is_told_as_far_as_it_is_known(planned, prior, said):
    records = read_metrics(FOLDER)
    for record in records:
        if record["kind"] == "final":
            mean, interval = prior if record["planner"] == "policy" else planned
            record |= {"mean_return": mean, "interval": interval}
    text = card(describe(FOLDER), records)
    if said is None:
        assert "The planner did" not in text
    else:
        assert f"\n{said}\n" in text


def test_milliseconds_are_told_with_the_accelerator_that_they_were_measured_on():
    description = describe(FOLDER)
    assert "| ms a decision, p50 |" in card(description, read_metrics(FOLDER))
    description["training"]["accelerator"] = "NVIDIA H200"
    assert "| ms a decision, p50, on NVIDIA H200 |" in card(description, read_metrics(FOLDER))
    # It went on elsewhere, and was evaluated there.
    description["training"]["resumed"] = [{"step": 7, "machine": "2 cores"}]
    assert "| ms a decision, p50 |" in card(description, read_metrics(FOLDER))


def test_it_says_how_to_play_it():
    assert "`preplay run walker-run --checkpoint FOLDER`" in card(describe(FOLDER), read_metrics(FOLDER))
