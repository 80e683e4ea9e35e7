"""Results claim something of new prompts only where the test rows are such prompts."""

from typing import Any

import numpy as np
import pytest

from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.splits import Split, make_splits, with_seeds
from tier4k.heads.evaluation.new_prompts import new_prompts_reason, training_set_reason
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import Summary, summarize
from tier4k.heads.metrics.recipe import recipe_interval
from tier4k.tests.builders.feature_sets import feature_set


def srcc_summary(features: FeatureSet, splits: list[Split]) -> Summary:
    trials = run_trials(features, fuse(features, "nr"), ["MOS_q"], splits, "ridge", {})
    return summarize(features, trials, splits)["MOS_q"]["last"]["srcc"]


@pytest.mark.parametrize(
    ("rule", "options", "reason"),
    [
        ("prompt", {"repeats": 3}, ""),
        ("prompt", {"repeats": 4, "folds": True}, ""),
        ("random", {"repeats": 3}, "test prompts are also in training"),
        ("published", {"repeats": 3}, "test prompts are also in training"),
        ("generator", {"repeats": 3}, "generators of the test rows are not in training"),
        ("prompt", {"repeats": 1}, "one training set"),
    ],
)
def test_only_prompt_disjoint_repeats_have_an_interval_for_new_prompts(
    rule: SplitRule, options: dict[str, Any], reason: str
) -> None:
    features = feature_set(240)
    if rule == "generator":  # else other generators drew the prompts of the left-out one
        features = with_prompts_of_one_generator(features)
    splits = make_splits(features, rule, seed=0, validation=0.0, **options)
    summary = srcc_summary(features, splits)
    assert (summary.interval is None) == bool(reason)
    assert reason in summary.interval_reason and bool(summary.interval_reason) == bool(reason)
    assert summary.interval_fitted_heads is not None


def with_prompts_of_one_generator(features: FeatureSet) -> FeatureSet:
    from dataclasses import replace

    group = np.array([f"{a}{b}" for a, b in zip(features.generator, features.group, strict=True)], object)
    return replace(features, group=group)


def test_the_generator_that_takes_the_interval_away_is_named() -> None:
    features = feature_set(120)
    features.generator[7] = "a rare one"
    reason = new_prompts_reason(features, make_splits(features, "prompt", 10, seed=0, validation=0.0))
    assert reason == "generators of the test rows are not in training (a rare one)"


def test_several_seeds_of_one_split_are_one_training_set() -> None:
    features = feature_set(120)
    splits = with_seeds(make_splits(features, "prompt", 1, seed=0, validation=0.0), 5)
    assert "one training set" in training_set_reason(splits) and not new_prompts_reason(features, splits)


def test_the_interval_is_that_of_a_bootstrap_over_prompts_with_twice_the_variance() -> None:
    features = feature_set(240)
    splits = make_splits(features, "prompt", 2, seed=0, validation=0.0)
    trials = run_trials(features, fuse(features, "nr"), ["MOS_q"], splits, "ridge", {})
    found = summarize(features, trials, splits)["MOS_q"]["last"]["rmse"]
    groups = np.unique(np.concatenate([features.group[split.test] for split in splits]))
    random = np.random.default_rng(1)
    means = []
    for _ in range(4000):
        drawn = random.choice(groups, len(groups))
        values = []
        for trial, split in zip(trials, splits, strict=True):
            errors = (trial.truth - trial.predictions["last"]) ** 2
            rows = [np.flatnonzero(features.group[split.test] == group) for group in drawn]
            values.append(np.sqrt(errors[np.concatenate(rows)].mean()))
        means.append(np.mean(values))
    expected = recipe_interval(found.mean, float(np.std(means)), len(groups))
    assert found.interval == pytest.approx(expected, rel=0.03)


def split_of(train: range, test: range, seed: int) -> Split:
    return Split(np.array(train), np.arange(0), np.array(test), seed)


def test_repeats_with_one_training_set_have_no_interval_whatever_they_test() -> None:
    features = feature_set(120)
    splits = [split_of(range(60), range(60 + 20 * number, 80 + 20 * number), number) for number in range(3)]
    summary = srcc_summary(features, splits)
    assert summary.interval is None and "one training set" in summary.interval_reason
    assert np.isnan(summary.sd_seeds) and summary.sd_splits == pytest.approx(np.std(summary.values, ddof=1))


def test_repeats_with_one_test_part_and_several_training_sets_are_several_splits() -> None:
    features = feature_set(120)
    splits = [split_of(range(20 * number, 40 + 20 * number), range(100, 120), number) for number in range(3)]
    summary = srcc_summary(features, splits)
    assert summary.interval is None and "one test part" in summary.interval_reason
    assert "training set" not in summary.interval_reason
    assert np.isnan(summary.sd_seeds) and summary.sd_splits == pytest.approx(np.std(summary.values, ddof=1))
