"""Without a signal nothing is found, and heads that see metadata alone equal the metadata baselines."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.splits import make_splits
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.regressors.choices import HeadName
from tier4k.tests.builders.feature_sets import feature_set

OPTIONS: dict[HeadName, dict[str, Any]] = {
    "ridge": {},
    "mlp": {"hidden": 4, "max_epochs": 3, "batch_size": 64},
}


def trials(features: FeatureSet, rule: SplitRule, head: HeadName = "ridge", repeats: int = 3) -> list[Trial]:
    if rule == "dataset":
        features = replace(features, dataset=np.array(["A", "B", "C"])[np.arange(len(features)) % 3])
    splits = make_splits(features, rule, repeats, 0, validation=0.15 if head == "mlp" else 0.0)
    return run_trials(features, fuse(features, "nr"), ["MOS_q"], splits, head, OPTIONS[head])


def mean_srcc(found: list[Trial], name: str) -> float:
    return float(np.mean([trial.metrics[name]["srcc"] for trial in found]))


def rated_by_siblings() -> FeatureSet:
    """Each prompt and generator has a score of its own, which its images share up to noise."""
    features, random = feature_set(600), np.random.default_rng(0)
    _, family = np.unique(
        [f"{g} {m}" for g, m in zip(features.group, features.generator, strict=True)], return_inverse=True
    )
    scores = random.normal(size=600)[family] + 0.3 * random.normal(size=600)
    return replace(features, targets=scores[:, None])


@pytest.mark.parametrize("rule", get_args(SplitRule))
@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_shuffled_scores_give_no_skill_under_any_split(head: HeadName, rule: SplitRule) -> None:
    features = feature_set(900)
    learnable = features.image["resnet18"] @ np.ones((6, 1))
    shuffled = replace(features, targets=np.random.default_rng(1).permutation(learnable))
    # The standard error of one SRCC over 180 test rows or more is 1 / sqrt(179) = 0.075.
    assert abs(mean_srcc(trials(shuffled, rule, head), "last")) < 3 * 0.075
    assert mean_srcc(trials(replace(features, targets=learnable), rule, "ridge"), "last") > 0.9


@pytest.mark.parametrize("rule", ["prompt", "random", "published"])
def test_a_model_that_sees_the_generator_alone_is_the_generator_baseline(rule: SplitRule) -> None:
    features = feature_set(600)
    _, generator = np.unique(features.generator, return_inverse=True)
    known = np.eye(3)[generator]
    scores = known @ [[1.0], [2.0], [3.5]] + np.random.default_rng(0).normal(0, 0.3, (600, 1))
    blind = replace(
        features,
        text={"bert": np.zeros((600, 1))},
        image={"resnet18": known},
        image_prompt={"resnet18": np.zeros_like(known)},
        targets=scores,
    )
    for trial in trials(blind, rule):
        np.testing.assert_allclose(trial.predictions["last"], trial.predictions["generator_mean"], atol=0.02)
        assert trial.metrics["last"]["srcc"] == pytest.approx(
            trial.metrics["generator_mean"]["srcc"], abs=1e-6
        )


@pytest.mark.parametrize("rule", get_args(SplitRule))
def test_siblings_beat_the_generator_only_where_the_split_leaks(rule: SplitRule) -> None:
    found = trials(rated_by_siblings(), rule)
    for trial in found:
        if rule in ("prompt", "generator"):
            np.testing.assert_array_equal(
                trial.predictions["sibling_mean"], trial.predictions["generator_mean"]
            )
    if rule in ("random", "published"):
        assert mean_srcc(found, "sibling_mean") > mean_srcc(found, "generator_mean") + 0.3
