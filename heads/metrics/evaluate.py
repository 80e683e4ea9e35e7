"""All metrics of one set of predictions, and the reason where a correlation is NaN."""

import numpy as np

from tier4k.heads.metrics.correlation import Metric, krcc, plcc, rmse, srcc
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.memoize import memoized


@memoized
def evaluate(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Every figure for one target on one set of rows: keys are `METRICS`. Truth and prediction are (N,)."""
    mapped = logistic_mapping(truth, prediction)
    return {
        "srcc": srcc(truth, prediction),
        "krcc": krcc(truth, prediction),
        "plcc": plcc(truth, prediction),
        "plcc_logistic": plcc(truth, mapped) if np.isfinite(mapped).all() else float("nan"),
        "rmse": rmse(truth, prediction),
        "rmse_logistic": rmse(truth, mapped),
    }


METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")

CORRELATIONS: dict[str, Metric] = {"srcc": srcc, "krcc": krcc, "plcc": plcc}


def why_nan(truth: np.ndarray, prediction: np.ndarray) -> str:
    """The reason why a figure of these (N,) does not exist, "" where all do."""
    if len(truth) < 2:
        return f"{len(truth)} test rows"
    if not np.isfinite(prediction).all():
        return "a prediction is not finite"
    if np.ptp(prediction) == 0:
        return "all predictions are equal"
    if np.ptp(truth) == 0:
        return "all true scores are equal"
    return (
        ""
        if np.isfinite(logistic_mapping(truth, prediction)).all()
        else "no rising logistic fits (figures after it alone are missing)"
    )
