"""Scores of several data sets are fitted and tested on one scale, which no test row has a part in."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import Split, SplitError, make_splits
from tier4k.heads.evaluation.alignment import OTHER_SCALE, scored_rows
from tier4k.heads.evaluation.nested import FusedCandidate, nested_selection
from tier4k.heads.evaluation.new_prompts import NEW_DATASETS, new_prompts_reason
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.regressors.registry import resolve_options
from tier4k.tests.builders.feature_sets import feature_set

ROWS = 120
TARGET = "MOS_q"


def two_sets(slope: float = 20.0, shift: float = -7.0, seed: int = 0) -> FeatureSet:
    """Rows of the sets A and B with a third without scores; those of B are on another scale."""
    features = feature_set(ROWS, seed)
    random = np.random.default_rng(seed)
    scores = features.image["resnet18"] @ random.normal(size=6) + random.normal(size=ROWS)
    dataset = np.where(np.arange(ROWS) // 4 % 2, "B", "A").astype(object)
    scores = np.where(dataset == "B", slope * scores + shift, scores)
    errors = random.uniform(0.1, 0.2, ROWS) * np.where(dataset == "B", slope, 1)
    scores[::7] = np.nan
    return replace(features, targets=scores[:, None], dataset=dataset, score_errors=errors[:, None])


def fit(features: FeatureSet, splits: list[Split], head: str = "ridge", **options: object) -> list[Trial]:
    return run_trials(features, fuse(features, "nr"), [TARGET], splits, head, options)  # type: ignore[arg-type]


@given(seed=st.integers(0, 50), names=st.permutations(["x", "y", "z"]))
@settings(max_examples=30, deadline=None)
def test_scores_are_mapped_by_mean_and_deviation_of_the_training_rows(seed: int, names: list[str]) -> None:
    random = np.random.default_rng(seed)
    features = replace(two_sets(seed=seed), dataset=random.choice(np.array(names, dtype=object), ROWS))
    (split,) = make_splits(features, "random", 1, seed)
    found = scored_rows(features, TARGET, split)
    raw, errors = features.targets[:, 0], features.score_errors[:, 0]  # type: ignore[index]
    trained = np.array([row in {*split.train, *split.validation} for row in range(ROWS)]) & ~np.isnan(raw)
    first = features.dataset[0]
    for name in names:
        rows = features.dataset == name
        own, reference = raw[rows & trained], raw[(features.dataset == first) & trained]
        ratio = np.std(reference) / np.std(own)
        expected = np.mean(reference) + ratio * (raw - np.mean(own))
        np.testing.assert_allclose(found.scores[rows], expected[rows])
        np.testing.assert_allclose(found.errors[rows], (ratio * errors)[rows])
        # After the map the training rows of every set have the mean and the deviation of the first.
        assert found.scores[rows & trained].mean() == pytest.approx(reference.mean())
        assert found.scores[rows & trained].std() == pytest.approx(reference.std())
    assert np.array_equal(
        found.scores[features.dataset == first], raw[features.dataset == first], equal_nan=True
    )
    assert not np.isnan(
        raw[np.concatenate([found.split.train, found.split.validation, found.split.test])]
    ).any()
    assert found.reason == ""


def test_scores_of_one_data_set_stay_bit_for_bit() -> None:
    features = replace(two_sets(), dataset=np.full(ROWS, "A"))
    (split,) = make_splits(features, "prompt", 1, seed=0)
    found = scored_rows(features, TARGET, split)
    assert found.scores.tobytes() == features.targets.tobytes()
    assert found.errors.tobytes() == features.score_errors.tobytes()  # type: ignore[union-attr]


def test_no_score_of_a_test_row_has_a_part_in_the_map() -> None:
    features = two_sets()
    (split,) = make_splits(features, "prompt", 1, seed=0)
    changed = features.targets.copy()
    changed[split.test] *= -3
    other = scored_rows(replace(features, targets=changed), TARGET, split)
    mine = scored_rows(features, TARGET, split)
    np.testing.assert_array_equal(mine.scores[split.outside_test], other.scores[split.outside_test])


def test_heads_with_and_without_a_validation_part_have_one_scale() -> None:
    features = two_sets()
    with_part, without = (make_splits(features, "prompt", 1, 3, share)[0] for share in (0.3, 0.0))
    assert len(with_part.validation) and with_part.test.tolist() == without.test.tolist()
    one, other = (scored_rows(features, TARGET, split).scores for split in (with_part, without))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("head", "options"),
    [("ridge", {}), ("mlp", {"hidden": 3, "max_epochs": 3}), ("svr", {})],  # svr stops at a tolerance
)
def test_results_do_not_depend_on_the_unit_of_the_second_data_set(head: str, options: dict) -> None:
    """A rating from 0 to 100 and the same rating from 1 to 5 give the same heads and the same values."""
    results = []
    for slope, shift in ((1.0, 0.0), (25.0, 300.0)):
        features = two_sets(slope, shift)
        resolved = resolve_options(head, "cached", "resnet18", options)  # type: ignore[arg-type]
        splits = make_splits(features, "prompt", 2, 0, resolved.get("validation_fraction", 0.0))
        trials = fit(features, splits, head, **resolved)
        results.append((trials, summarize(features, trials, splits)[TARGET]))
    (ones, summary), (others, other_summary) = results
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one.truth, other.truth)
        for name, predicted in one.predictions.items():
            np.testing.assert_allclose(predicted, other.predictions[name], rtol=1e-3, atol=1e-3)
    for name in ("generator_mean", RATERS, "last"):
        for metric in ("plcc", "rmse", "srcc"):
            one_value, other_value = summary[name][metric], other_summary[name][metric]
            assert one_value.mean == pytest.approx(other_value.mean, rel=2e-3, nan_ok=True), (name, metric)
            assert one_value.bounds == pytest.approx(other_value.bounds, rel=2e-3, nan_ok=True)
    assert np.isfinite(summary[RATERS]["plcc"].mean)


def test_a_search_does_not_depend_on_the_unit_either() -> None:
    found = []
    for slope in (1.0, 25.0):
        features = two_sets(slope, 4 * slope)
        candidates = []
        for penalty in (0.01, 100.0):
            options = resolve_options("ridge", "cached", "resnet18", {"penalties": (penalty,)})
            candidates.append(FusedCandidate(fuse(features, "nr"), "ridge", options))
        found.append(nested_selection(features, candidates, TARGET, SplitRequest("prompt", repeats=3)))
    np.testing.assert_allclose(found[0].selection_srcc, found[1].selection_srcc)
    np.testing.assert_allclose(found[0].test_srcc, found[1].test_srcc)


def test_baselines_learn_from_aligned_scores() -> None:
    features = two_sets()
    (split,) = make_splits(features, "prompt", 1, 0, validation=0.0)
    (trial,) = fit(features, [split])
    scores = features.targets[:, 0].copy()
    train = split.train[~np.isnan(scores[split.train])]
    in_a, in_b = train[features.dataset[train] == "A"], train[features.dataset[train] == "B"]
    is_b = features.dataset == "B"
    ratio = scores[in_a].std() / scores[in_b].std()
    scores[is_b] = scores[in_a].mean() + ratio * (scores[is_b] - scores[in_b].mean())
    for row, predicted in zip(trial.test, trial.predictions["generator_mean"], strict=True):
        same = train[features.generator[train] == features.generator[row]]
        assert predicted == pytest.approx(scores[same].mean())
    np.testing.assert_allclose(trial.truth, scores[trial.test])


@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_without_training_rows_of_a_set_its_scores_stay_and_have_no_rmse(head: str) -> None:
    features = two_sets()
    splits = make_splits(features, "dataset", 2, seed=0)
    options = {"hidden": 2, "max_epochs": 2} if head == "mlp" else {}
    trials = fit(features, splits, head, **options)
    for trial, name in zip(trials, "AB", strict=True):
        assert set(features.dataset[trial.test]) == {name}
        np.testing.assert_array_equal(trial.truth, features.targets[trial.test, 0])
        assert trial.held_out is None
        for selection, metrics in trial.metrics.items():
            if selection != RATERS and trial.reasons.get(selection) != "no validation part":
                assert np.isnan(metrics["rmse"]) and np.isnan(metrics["rmse_logistic"])
                assert OTHER_SCALE in trial.reasons[selection], selection
        expected = spearmanr(trial.truth, trial.predictions["last"]).statistic
        assert trial.metrics["last"]["srcc"] == pytest.approx(expected)
    assert np.isfinite(trials[0].metrics[RATERS]["plcc"])
    # Rows of the same generators, but of new prompts in another data set: no interval for the recipe.
    reason = f"{NEW_DATASETS} (A, B)"
    assert new_prompts_reason(features, splits) == reason
    assert summarize(features, trials, splits)[TARGET]["last"]["srcc"].interval_reason == reason


def test_where_the_first_set_has_no_training_rows_the_scale_is_that_of_the_next() -> None:
    features = two_sets()
    features = replace(
        features, dataset=np.array([f"set {row // 4 % 3}" for row in range(ROWS)], dtype=object)
    )
    (split, *_) = make_splits(features, "dataset", 3, seed=0)
    found = scored_rows(features, TARGET, split)
    for name in ("set 0", "set 1"):
        rows = features.dataset == name
        assert np.array_equal(found.scores[rows], features.targets[rows, 0], equal_nan=True)
    mapped = found.split.outside_test[features.dataset[found.split.outside_test] == "set 2"]
    reference = found.split.outside_test[features.dataset[found.split.outside_test] == "set 1"]
    assert found.scores[mapped].mean() == pytest.approx(features.targets[reference, 0].mean())
    assert found.reason == OTHER_SCALE


def test_a_target_that_only_one_set_has_is_not_mapped() -> None:
    features = two_sets()
    targets = np.where((features.dataset == "A")[:, None], features.targets, np.nan)
    features = replace(features, targets=targets)
    (split,) = make_splits(features, "prompt", 1, seed=0)
    found = scored_rows(features, TARGET, split)
    assert found.reason == "" and np.array_equal(found.scores, targets[:, 0], equal_nan=True)


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_set_whose_training_scores_are_all_equal_is_refused(name: str) -> None:
    features = two_sets()
    targets = np.where((features.dataset == name)[:, None], 3.5, features.targets)
    (split,) = make_splits(features, "prompt", 1, seed=4)
    with pytest.raises(
        SplitError, match=rf"MOS_q of {name}, split with seed 4: all training rows .* score 3.5"
    ):
        scored_rows(replace(features, targets=targets), TARGET, split)
