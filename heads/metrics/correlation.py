"""Agreement of predicted with true scores. A figure that does not exist is NaN; nothing is made positive."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, spearmanr

Metric = Callable[[np.ndarray, np.ndarray], float]


def srcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Spearman's rank correlation in [-1, 1], ties at their mean rank; NaN for constant input. (N,), (N,)."""
    return _quiet(spearmanr, truth, prediction)


def krcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Kendall's tau-b in [-1, 1]; NaN for constant input. (N,), (N,)."""
    return _quiet(kendalltau, truth, prediction)


def plcc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Pearson's correlation in [-1, 1] of the raw predictions; NaN for constant input. (N,), (N,)."""
    return _quiet(pearsonr, truth, prediction)


def rmse(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Root mean squared error in units of the score, of the raw predictions. (N,), (N,)."""
    return float(np.sqrt(np.mean((truth - prediction) ** 2)))


def _quiet(correlation: Callable[..., object], truth: np.ndarray, prediction: np.ndarray) -> float:
    if len(truth) < 2 or not np.isfinite(prediction).all():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(correlation(truth, prediction).statistic)  # type: ignore[attr-defined]
