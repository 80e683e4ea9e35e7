"""Correlations, which keep their sign, and the error of predicted and true scores; NaN where undefined."""

from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau, pearsonr, spearmanr

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Maps true scores (N,) and predictions (N,) to a value."""

ROUNDING = 1e-12  # values that differ by a smaller share of their size differ by rounding


def is_constant(values: np.ndarray) -> bool:
    """Return whether finite values (N,), N > 0, are equal up to rounding.

    Then no correlation with them exists: their ranks are those of rounding errors.
    """
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def srcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return Spearman's rank correlation of true scores (N,) and predictions (N,), in [-1, 1].

    Ties have their mean rank. The correlation with constant input (`is_constant`) is NaN.
    """
    return _correlation(spearmanr, truth, prediction)


def krcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return Kendall's tau-b of true scores (N,) and predictions (N,), in [-1, 1]; NaN for constant input."""
    return _correlation(kendalltau, truth, prediction)


def plcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return Pearson's correlation of two sets of scores (N,), in [-1, 1]; NaN for constant input."""
    return _correlation(pearsonr, truth, prediction)


def rmse(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the root mean squared error of raw predictions (N,), 0 or more, in units of the score."""
    return float(np.sqrt(np.mean((truth - prediction) ** 2)))


def _correlation(
    correlation: Callable[..., object],
    truth: np.ndarray,
    prediction: np.ndarray,
) -> float:
    if len(truth) < 2 or not np.isfinite(prediction).all():
        return float("nan")
    if is_constant(truth) or is_constant(prediction):
        return float("nan")
    result = correlation(truth, prediction)
    return float(result.statistic)  # type: ignore[attr-defined]
