"""Correlations keep their sign, and are NaN with a reason where they do not exist."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tier4k.heads.metrics.all_metrics import evaluate, nan_reason
from tier4k.heads.metrics.correlation import srcc


def test_correlations_keep_their_sign() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=50)
    backwards = -truth + random.normal(size=50) * 0.1
    metrics = evaluate(truth, backwards)
    assert metrics["srcc"] == pytest.approx(spearmanr(truth, backwards).statistic)
    assert metrics["srcc"] < -0.9
    assert not metrics["plcc_logistic"] > 0  # a falling curve would act like an absolute value


def test_a_correlation_with_a_constant_does_not_exist() -> None:
    truth = np.random.default_rng(2).normal(size=50)
    assert np.isnan(srcc(truth, np.ones(50)))


@pytest.mark.parametrize(
    ("truth", "prediction", "reason"),
    [
        (np.arange(1.0), np.arange(1.0), "1 test rows"),
        (np.arange(9.0), np.r_[np.inf, np.arange(8.0)], "a prediction is not finite"),
        (np.arange(9.0), np.ones(9), "all predictions are equal"),
        (np.arange(9.0), 57.3 + np.arange(9.0) * 1e-14, "all predictions are equal"),
        (np.ones(9), np.arange(9.0), "all true scores are equal"),
        (3 - np.arange(9.0) * 4e-16, np.arange(9.0), "all true scores are equal"),
        (np.arange(9.0), -np.arange(9.0), "no monotonic logistic fit"),
        (np.arange(9.0), np.sin(np.arange(9.0)) + np.arange(9.0), ""),
    ],
    ids=[
        "one row",
        "infinite",
        "equal predictions",
        "predictions equal up to rounding",
        "equal scores",
        "scores equal up to rounding",
        "backwards",
        "none",
    ],
)
def test_a_missing_metric_has_a_reason(truth: np.ndarray, prediction: np.ndarray, reason: str) -> None:
    found = nan_reason(truth, prediction)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


@pytest.mark.parametrize("size", [1e-8, 1.0, 57.3, 1e6])
def test_predictions_equal_up_to_rounding_have_an_error_and_no_other_metric(size: float) -> None:
    random = np.random.default_rng(4)
    truth = random.uniform(0, size, 40)
    rounding = size * (1 + random.uniform(-4e-13, 4e-13, 40))
    small = size * (1 + random.uniform(-4e-9, 4e-9, 40))
    for scores, prediction in ((truth, rounding), (rounding, truth)):
        metrics = dict(evaluate(scores, prediction))
        assert metrics.pop("rmse") == pytest.approx(np.sqrt(np.mean((scores - prediction) ** 2)))
        assert np.isnan(list(metrics.values())).all()
    assert np.isfinite([evaluate(truth, small)[name] for name in ("srcc", "krcc", "plcc")]).all()
