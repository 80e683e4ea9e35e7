"""Test scores are used once, after everything else, and every metric can be computed again."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.splits import Split, make_splits
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import SELECTIONS, Trial, headline
from tier4k.heads.metrics.all_metrics import METRICS, POOLED_METRICS
from tier4k.heads.metrics.levels import LEVEL_METRICS, SYSTEM_METRICS, TOO_FEW_GENERATORS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.tasks import FitTask, WatchedRows
from tier4k.tests.builders.feature_sets import feature_set

HEAD = {"hidden": 4, "max_epochs": 6, "learning_rate": 0.02, "batch_size": 16}
TARGETS = ("quality", "alignment")
RAW_METRICS = ("plcc", "rmse")


def learnable(rows: int = 160, noise: float = 1.0, seed: int = 0) -> FeatureSet:
    """Two targets that are linear in the image's features, but for noise."""
    features, random = feature_set(rows, seed), np.random.default_rng(seed)
    targets = (
        3 + features.image["resnet18"] @ random.normal(size=(6, 2)) + noise * random.normal(size=(rows, 2))
    )
    return replace(features, targets=targets, target_names=TARGETS)


def fit(
    features: FeatureSet, splits: list[Split], targets: tuple[str, ...] = ("quality",), **head: Any
) -> list[Trial]:
    return run_trials(features, fuse(features, "nr"), targets, splits, "mlp", HEAD | head)


def with_scores(features: FeatureSet, rows: np.ndarray, scores: np.ndarray) -> FeatureSet:
    targets = features.targets.copy()
    targets[rows] = scores
    return replace(features, targets=targets)


@pytest.mark.parametrize("noise", [0.5, 50.0])
def test_the_best_test_epoch_is_never_worse_than_the_last(noise: float) -> None:
    features = learnable(noise=noise)
    for trial in fit(features, make_splits(features, "prompt", 2, seed=0), TARGETS):
        best, last = trial.metrics["best_test"], trial.metrics["last"]
        assert all(best[name] >= last[name] for name in ("srcc", "krcc", "plcc"))
        assert best["rmse"] <= last["rmse"]


def test_the_selections_are_epochs_of_the_training() -> None:
    features = learnable(noise=3)
    (split,), y = make_splits(features, "prompt", 1, seed=3), features.targets[:, 0]
    X = fuse(features, "nr").X
    history: list[np.ndarray] = []
    head = MLPHead(**HEAD, random_state=3)
    watch = WatchedRows(split.test, lambda _, predicted: history.append(predicted))
    MLPHead.fit_many([head], X, [FitTask(y, split.train, split.validation, watch)])
    truth, (trial,) = y[split.test], fit(features, [split])
    best = trial.metrics["best_test"]
    assert best["srcc"] == pytest.approx(max(spearmanr(truth, values).statistic for values in history))
    assert best["plcc"] == pytest.approx(max(pearsonr(truth, values).statistic for values in history))
    assert best["rmse"] == pytest.approx(min(np.sqrt(np.mean((truth - values) ** 2)) for values in history))
    np.testing.assert_array_equal(trial.predictions["last"], history[-1])
    np.testing.assert_allclose(trial.predictions["best_validation"], history[head.best_epoch_ - 1], rtol=1e-5)


@pytest.mark.parametrize("rule", ["prompt", "random", "generator", "published"])
def test_scores_of_test_rows_never_influence_a_prediction(rule: Any) -> None:
    features = learnable()
    splits = make_splits(features, rule, 1, seed=0)
    test = splits[0].test
    permuted = with_scores(features, test, np.random.default_rng(0).permutation(features.targets[test]))
    assert [split.test.tolist() for split in make_splits(permuted, rule, 1, seed=0)] == [test.tolist()]
    (before,), (after,) = fit(features, splits), fit(permuted, splits)
    assert before.metrics["last"] != after.metrics["last"]
    for name in ("last", "best_validation", *BASELINES):
        np.testing.assert_array_equal(before.predictions[name], after.predictions[name])


def test_features_of_test_rows_never_influence_the_head() -> None:
    features = learnable()
    splits = make_splits(features, "prompt", 1, seed=0)
    image = features.image["resnet18"].copy()
    image[splits[0].test] *= 100
    (before,), (after,) = fit(features, splits), fit(replace(features, image={"resnet18": image}), splits)
    for name, weights in before.head.weights_.items():
        np.testing.assert_array_equal(weights, after.head.weights_[name])


def test_a_signal_is_learned_and_shuffled_scores_give_no_correlation() -> None:
    features = learnable(rows=400, noise=0.3)
    shuffled = with_scores(features, np.arange(400), np.random.default_rng(1).permutation(features.targets))
    splits = make_splits(features, "prompt", 4, seed=0)
    found, nothing = (
        np.mean(
            [
                trial.metrics["best_validation"]["srcc"]
                for trial in fit(rows, splits, max_epochs=8, batch_size=32)
            ]
        )
        for rows in (features, shuffled)
    )
    assert found > 0.9
    assert abs(nothing) < 0.15


def test_equal_seeds_give_equal_metrics_whatever_ran_before() -> None:
    features = learnable(rows=80)

    def metrics(targets: tuple[str, ...], seed: int) -> dict[tuple[Any, ...], float]:
        trials = fit(features, make_splits(features, "prompt", 2, seed), targets)
        return {
            (t.target, t.repeat, name, metric): t.metrics[name][metric]
            for t in trials
            for name in SELECTIONS
            for metric in RAW_METRICS
        }

    first = metrics(TARGETS, 5)
    torch.manual_seed(99)
    assert metrics(TARGETS[::-1], 5) == first
    assert not set(metrics(TARGETS, 7).values()) & set(first.values())


def test_fitting_leaves_the_users_random_numbers_alone() -> None:
    features = learnable(rows=40)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002, the global state is what is tested
    expected = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    fit(features, make_splits(features, "prompt", 1, seed=0))
    assert torch.equal(torch.random.get_rng_state(), expected[0])
    np.testing.assert_array_equal(np.random.get_state()[1], expected[1])  # noqa: NPY002


def test_a_summary_is_numpy_on_the_raw_values() -> None:
    features = learnable()
    splits = make_splits(features, "prompt", 3, seed=0)
    trials = fit(features, splits, TARGETS)
    summaries = summarize(features, trials, splits)
    assert list(summaries) == list(TARGETS)
    for target, names in summaries.items():
        for name, metrics in names.items():
            for metric in METRICS:
                raw = np.array([trial.metrics[name][metric] for trial in trials if trial.target == target])
                found = metrics[metric]
                np.testing.assert_array_equal(found.values, raw)
                np.testing.assert_allclose(
                    (found.mean, found.sd, found.median), (raw.mean(), raw.std(ddof=1), np.median(raw))
                )


def test_metrics_are_those_of_scipy_on_the_kept_predictions() -> None:
    features = learnable()
    for trial in fit(features, make_splits(features, "random", 2, seed=0)):
        for name, predictions in trial.predictions.items():
            assert trial.metrics[name]["srcc"] == pytest.approx(spearmanr(trial.truth, predictions).statistic)
            assert trial.metrics[name]["plcc"] == pytest.approx(pearsonr(trial.truth, predictions).statistic)


def test_an_interval_surrounds_the_mean_and_a_mixture_of_epochs_has_none() -> None:
    features = learnable()
    splits = make_splits(features, "prompt", 3, seed=0)
    names = summarize(features, fit(features, splits), splits)["quality"]
    for metric in POOLED_METRICS:
        found = names["best_validation"][metric]
        assert found.interval is not None
        low, high = found.interval
        assert low < found.mean < high
        assert names["best_test"][metric].interval is None
        assert "selected on the test rows" in names["best_test"][metric].interval_reason


def test_metrics_of_generators_and_within_prompts_have_no_interval_and_say_why() -> None:
    features = learnable()
    splits = make_splits(features, "prompt", 3, seed=0)
    names = summarize(features, fit(features, splits), splits)["quality"]
    for metric in LEVEL_METRICS:
        found = names["last"][metric]
        assert np.isfinite(found.values).all()
        assert found.interval is None and found.interval_fitted_heads is None
        assert "only the metrics over all test rows" in found.interval_reason


def share_in_order(group: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the pairs of rows of one prompt that both scores, which have no ties, order alike."""
    pairs = [pair for pair in combinations(range(len(group)), 2) if group[pair[0]] == group[pair[1]]]
    agree = [(truth[a] < truth[b]) == (prediction[a] < prediction[b]) for a, b in pairs]
    return sum(agree) / len(pairs)


def test_ranking_within_prompts_is_that_of_the_kept_predictions_and_of_the_epoch_of_the_best_srcc() -> None:
    features = learnable(noise=5)
    (split,) = make_splits(features, "prompt", 1, seed=1)
    X, truth, group = fuse(features, "nr").X, features.targets[split.test, 0], features.group[split.test]
    history: list[np.ndarray] = []
    watch = WatchedRows(split.test, lambda _, predicted: history.append(predicted))
    task = FitTask(features.targets[:, 0], split.train, split.validation, watch)
    MLPHead.fit_many([MLPHead(**HEAD, random_state=1)], X, [task])
    (trial,) = fit(features, [split])
    for name in ("last", "best_validation"):
        expected = share_in_order(group, truth, trial.predictions[name])
        assert trial.metrics[name]["prompt_pairs"] == pytest.approx(expected)
    best = max(history, key=lambda predicted: spearmanr(truth, predicted).statistic)
    expected = share_in_order(group, truth, best)
    assert trial.metrics["best_test"]["prompt_pairs"] == pytest.approx(expected)
    assert expected < max(share_in_order(group, truth, predicted) for predicted in history)


def test_a_test_part_of_one_generator_lacks_only_the_metrics_of_generators() -> None:
    features = learnable()
    (trial,) = fit(features, make_splits(features, "generator", 1, seed=0))
    for name in SELECTIONS:
        assert trial.reasons[name] == TOO_FEW_GENERATORS
        values = trial.metrics[name]
        assert {metric for metric in METRICS if np.isnan(values[metric])} == set(SYSTEM_METRICS)


def test_the_raters_ceiling_is_that_of_the_test_rows_of_each_repeat() -> None:
    features = learnable()
    errors = np.random.default_rng(0).uniform(0.2, 0.6, (160, 2))
    splits = make_splits(features, "prompt", 3, seed=0)
    assert all(RATERS not in trial.metrics for trial in fit(features, splits, TARGETS))
    rated = replace(features, score_errors=errors)
    found = summarize(rated, fit(rated, splits, TARGETS), splits)
    for column, target in enumerate(TARGETS):
        expected = []
        for split in splits:
            scores = features.targets[split.test, column]
            share_of_error = np.mean(errors[split.test, column] ** 2) / scores.var(ddof=1)
            expected.append(np.sqrt(1 - share_of_error))
        assert found[target][RATERS]["plcc"].values == pytest.approx(tuple(expected))
        assert np.isnan(found[target][RATERS]["krcc"].mean)
        assert found[target][RATERS]["plcc"].interval is None


def test_one_repeat_has_no_standard_deviation() -> None:
    features = learnable()
    splits = make_splits(features, "prompt", 1, seed=0)
    found = summarize(features, fit(features, splits), splits)["quality"]["last"]["srcc"]
    assert np.isnan(found.sd) and found.mean == found.median == found.values[0]


def test_without_validation_rows_the_result_is_the_last_epoch() -> None:
    features = learnable()
    (trial,) = fit(
        features, make_splits(features, "prompt", 1, seed=0, validation=0.0), validation_fraction=0.0
    )
    assert headline(trial.predictions) == "last"
    assert np.isnan(list(trial.metrics["best_validation"].values())).all()
    assert trial.reasons["best_validation"] == "no validation part"
    (validated,) = fit(features, make_splits(features, "prompt", 1, seed=0))
    assert headline(validated.predictions) == "best_validation"


def test_equal_scores_have_no_correlation_and_a_reason() -> None:
    features = learnable(rows=60)
    equal = with_scores(features, np.arange(60), np.full((60, 2), 2.5))
    splits = make_splits(equal, "prompt", 2, seed=0)
    trials = fit(equal, splits)
    found = summarize(equal, trials, splits)["quality"]["last"]
    assert np.isnan(found["srcc"].mean) and found["srcc"].interval is None
    assert found["srcc"].interval_reason == "srcc is NaN"
    assert found["rmse"].mean < 1
    assert trials[0].reasons["last"] == "all true scores are equal"


def test_progress_counts_every_head() -> None:
    features, seen = learnable(rows=40), []
    splits = make_splits(features, "prompt", 2, seed=0)
    trials = run_trials(
        features,
        fuse(features, "nr"),
        TARGETS,
        splits,
        "mlp",
        HEAD | {"max_epochs": 1},
        lambda *step: seen.append(step),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(trial.target, trial.repeat) for trial in trials] == [
        (target, repeat) for target in TARGETS for repeat in range(2)
    ]


def test_a_trial_without_an_rmse_keeps_its_other_metrics_and_adds_the_reason() -> None:
    features = learnable(rows=60)
    (trial,) = fit(features, make_splits(features, "prompt", 1, seed=0))
    without = replace(trial, reasons={"last": "no correlation"}).without_rmse("last", "no scale")
    assert np.isnan(without.metrics["last"]["rmse"]) and without.reasons == {
        "last": "no correlation; no scale"
    }
    assert without.metrics["last"]["srcc"] == trial.metrics["last"]["srcc"]
    assert trial.without_rmse("last", "no scale").reasons["last"] == "no scale"
