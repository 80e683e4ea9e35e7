"""The logistic of "PLCC (logistic)" as a curve to draw."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import pchip_interpolate

from tier4k.heads.metrics.logistic import logistic_mapping

CURVE_POINTS = 80


@dataclass(frozen=True)
class LogisticCurve:
    """Points of the fitted 4-parameter logistic, by rising prediction; empty without a monotonic fit."""

    prediction: np.ndarray
    score: np.ndarray


def logistic_curve(truth: np.ndarray, prediction: np.ndarray) -> LogisticCurve:
    """Evaluate the logistic of "PLCC (logistic)" at `CURVE_POINTS` places over the range of the predictions.

    Between two predictions the curve is a monotonic cubic through the values of the logistic at predictions.

    The curve is empty where no monotonic logistic fits, and where there are no predictions.

    Args:
        truth: Scores (N,).
        prediction: Predictions (N,).
    """
    if not len(prediction):
        return LogisticCurve(np.empty(0), np.empty(0))
    mapped = logistic_mapping(truth, prediction)
    if not np.isfinite(mapped).all():
        return LogisticCurve(np.empty(0), np.empty(0))
    distinct, first = np.unique(prediction, return_index=True)
    places = np.linspace(distinct[0], distinct[-1], CURVE_POINTS)
    return LogisticCurve(places, pchip_interpolate(distinct, mapped[first], places))
