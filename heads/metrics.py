"""Agreement of predicted with true scores. A figure that does not exist is NaN; nothing is made positive."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
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


def logistic(x: np.ndarray, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
    """The monotonic 4-parameter logistic of VQEG FR-TV phase II (2003), with |width| as there: bottom … top."""
    return bottom + (top - bottom) / (1 + np.exp(-np.clip((x - middle) / (abs(width) + 1e-12), -50, 50)))


def logistic_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Predictions mapped to the scores by the least-squares 4-parameter logistic, (N,).

    A correlation after this mapping is optimistic by construction, as the mapping is fitted to the very scores it is
    judged on; IQA papers report it beside the raw one. All NaN where the fit fails or the predictions are constant.
    """
    if len(prediction) < 5 or np.ptp(prediction) == 0 or not np.isfinite(prediction).all():
        return np.full(len(prediction), np.nan)
    scale = np.std(prediction)
    x = (prediction - np.mean(prediction)) / scale
    # From a falling start too: a model that ranks backwards is mapped by a falling curve, as the standard allows.
    starts = [(np.max(truth), np.min(truth), 0.0, 0.5), (np.min(truth), np.max(truth), 0.0, 0.5)]
    fits = [parameters for start in starts if (parameters := _fit(x, truth, start)) is not None]
    if not fits:
        return np.full(len(prediction), np.nan)
    mapped = [logistic(x, *parameters) for parameters in fits]
    return min(mapped, key=lambda values: rmse(truth, values))


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
    """The reason why correlations of these (N,) do not exist, "" where they do."""
    if len(truth) < 2:
        return f"{len(truth)} test rows"
    if not np.isfinite(prediction).all():
        return "a prediction is not finite"
    if np.ptp(prediction) == 0:
        return "all predictions are equal"
    return "all true scores are equal" if np.ptp(truth) == 0 else ""


def _fit(x: np.ndarray, truth: np.ndarray, start: tuple[float, ...]) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            return np.asarray(curve_fit(logistic, x, truth, p0=start, maxfev=4000)[0])
        except RuntimeError:  # scipy's word for "did not converge"
            return None


def _quiet(correlation: Callable[..., object], truth: np.ndarray, prediction: np.ndarray) -> float:
    if len(truth) < 2 or not np.isfinite(prediction).all():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(correlation(truth, prediction).statistic)  # type: ignore[attr-defined]
