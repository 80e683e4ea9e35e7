"""All metrics of one set of predictions, and the reasons where metrics are NaN."""

import math

import numpy as np

from tier4k.heads.metrics.correlation import Metric, is_constant, krcc, plcc, rmse, srcc
from tier4k.heads.metrics.levels import LEVEL_METRICS, level_metrics, level_nan_reasons
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.test_rows import TestRows

POOLED_METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")  # of all rows together

METRICS = (*POOLED_METRICS, *LEVEL_METRICS)

LIMITS = {  # smallest and largest value of each pooled metric
    "srcc": (-1.0, 1.0),
    "krcc": (-1.0, 1.0),
    "plcc": (-1.0, 1.0),
    "plcc_logistic": (-1.0, 1.0),
    "rmse": (0.0, math.inf),
    "rmse_logistic": (0.0, math.inf),
}

CORRELATIONS: dict[str, Metric] = {"srcc": srcc, "krcc": krcc, "plcc": plcc}


def evaluate_rows(rows: TestRows) -> dict[str, float]:
    """Compute every metric in `METRICS` of test rows; NaN where `nan_reasons` gives a reason."""
    return evaluate(rows.truth, rows.prediction) | level_metrics(rows)


@memoized
def evaluate(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Compute every metric in `POOLED_METRICS` of true scores (N,) and predictions (N,).

    Returns:
        Value by metric. Correlations are in [-1, 1], errors are in units of the score; NaN where `nan_reason`
        gives a reason.
    """
    mapped = logistic_mapping(truth, prediction)
    has_mapping = np.isfinite(mapped).all()
    return {
        "srcc": srcc(truth, prediction),
        "krcc": krcc(truth, prediction),
        "plcc": plcc(truth, prediction),
        "plcc_logistic": plcc(truth, mapped) if has_mapping else float("nan"),
        "rmse": rmse(truth, prediction),
        "rmse_logistic": rmse(truth, mapped),
    }


def nan_reasons(rows: TestRows) -> str:
    """Return why metrics of test rows are NaN, separated by semicolons; "" if no metric is NaN."""
    reasons = [nan_reason(rows.truth, rows.prediction), *level_nan_reasons(rows)]
    return "; ".join(filter(None, reasons))


def nan_reason(truth: np.ndarray, prediction: np.ndarray) -> str:
    """Return why a metric in `POOLED_METRICS` of scores and predictions (N,) is NaN; "" if none is."""
    if len(truth) < 2:
        return f"{len(truth)} test rows"
    if not np.isfinite(prediction).all():
        return "a prediction is not finite"
    if is_constant(prediction):
        return "all predictions are equal"
    if is_constant(truth):
        return "all true scores are equal"
    if not np.isfinite(logistic_mapping(truth, prediction)).all():
        return "no monotonic logistic fit (only the metrics after the logistic are missing)"
    return ""
