"""Variants and tasks by name."""

from dataclasses import replace

import pytest

from agent import AgentInfo, TrainConfig
from benchmarks.study import tasks, variants
from preplay.errors import UsageError

WALKER_RUN = AgentInfo("walker-run", action_repeat=2)


TODAY = {name: variant for name, variant in variants.VARIANTS.items() if variant.until is None}


@pytest.mark.parametrize("variant", TODAY.values(), ids=lambda variant: variant.name)
def test_a_variant_is_something_that_preplay_trains(variant):
    assert isinstance(variants.configuration(variant), TrainConfig)
    assert variant.asks.endswith("?")


def test_variants_set_what_they_say():
    of = {name: variants.configuration(variant) for name, variant in TODAY.items()}
    assert of["planner-off"].planning.planner == "policy"
    assert of["one-update"].updates_per_decision == 1
    assert of["single-step-returns"].learner.returns == "single"
    assert of["tdmpc2"].learner.contrast_weight == of["tdmpc2"].noise_time == 0
    assert not of["tdmpc2"].learner.slow_encoder
    assert not of["fast-encoder"].learner.slow_encoder
    # An ablation that is no different from the agent as it is would say nothing.
    changed = [variant for variant, config in of.items() if variant != "full" and config == of["full"]]
    assert changed == []


def test_a_preset_of_its_own_replaces_the_usual_one():
    variant = variants.Variant("mine", "?", ("--preset", "tiny"))
    assert variant.arguments == ["--preset", "tiny"]
    assert variants.find("full").arguments == ["--preset", "small"]


def test_what_a_run_is_watched_with_makes_no_variant():
    full = variants.find("full")
    config = replace(variants.configuration(full), steps=7, seed=3, evaluate_every=5, threads=2)
    variants.check_fit(config, WALKER_RUN, full, "run")
    assert variants.fingerprint(config) == variants.fingerprint(variants.configuration(full))


def test_variants_are_told_apart_by_their_settings():
    found = {variants.fingerprint(variants.configuration(variant)) for variant in TODAY.values()}
    assert len(found) == len(TODAY)


def test_other_evaluation_episodes_make_no_pairs():
    full = variants.find("full")
    with pytest.raises(UsageError, match="evaluation_seed 10006"):
        variants.check_fit(replace(variants.configuration(full), evaluation_seed=10_006), WALKER_RUN, full, "run")


def test_what_changes_learning_does():
    full, single = variants.find("full"), variants.find("single-step-returns")
    with pytest.raises(UsageError, match=r"learner\.returns single, and variant 'full' has multi"):
        variants.check_fit(variants.configuration(single), WALKER_RUN, full, "run")


def test_suites_and_names():
    assert tasks.expand(["hard-8", "walker-run", "walker-walk"]) == [*tasks.HARD_8, "walker-walk"]
    assert set(tasks.SUITES["ablation-3"]) <= set(tasks.HARD_8)
