"""All metrics of one set of predictions, and the reason where a metric is NaN."""

import numpy as np

from tier4k.heads.metrics.correlation import Metric, is_constant, krcc, plcc, rmse, srcc
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.memoize import memoized

METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")

CORRELATIONS: dict[str, Metric] = {"srcc": srcc, "krcc": krcc, "plcc": plcc}


@memoized
def evaluate(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Compute every metric in `METRICS` of true scores (N,) and predictions (N,).

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


def nan_reason(truth: np.ndarray, prediction: np.ndarray) -> str:
    """Return why a metric of true scores (N,) and predictions (N,) is NaN; "" if no metric is NaN."""
    if len(truth) < 2:
        return f"{len(truth)} test rows"
    if not np.isfinite(prediction).all():
        return "a prediction is not finite"
    if is_constant(prediction):
        return "all predictions are equal"
    if is_constant(truth):
        return "all true scores are equal"
    if not np.isfinite(logistic_mapping(truth, prediction)).all():
        return "no monotonic logistic fit (only the metrics after it are missing)"
    return ""
