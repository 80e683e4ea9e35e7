"""Agreement of predicted with true scores. A figure that does not exist is NaN; nothing is made positive."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, spearmanr

MIN_WIDTH = 1e-12
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
    return bottom + (top - bottom) * expit((x - middle) / max(abs(width), MIN_WIDTH))


def logistic_jacobian(x: np.ndarray, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
    """Derivatives (N, 4) of `logistic` by its parameters."""
    wide = max(abs(width), MIN_WIDTH)
    share = expit((x - middle) / wide)
    slope = (top - bottom) * share * (1 - share) / wide
    return np.stack([share, 1 - share, -slope, -slope * (x - middle) / wide * np.sign(width)], axis=1)


def logistic_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Predictions mapped to the scores by the least-squares 4-parameter logistic, (N,).

    A correlation after this mapping is optimistic by construction, as the mapping is fitted to the very scores it is
    judged on; IQA papers report it beside the raw one. Only rising curves count: a falling one would turn a model that
    ranks backwards into a good one, an absolute value by another name. All NaN where no rising curve fits.
    """
    if len(prediction) < 5 or not np.isfinite(prediction).all() or np.ptp(prediction) == 0:
        return np.full(len(prediction), np.nan)
    x = (prediction - np.mean(prediction)) / np.std(prediction)
    starts = [(np.max(truth), np.min(truth), 0.0, width) for width in (0.5, 2.0)]
    fits = [parameters for start in starts if (parameters := _fit(x, truth, start)) is not None and parameters[0] > parameters[1]]
    if not fits:
        return np.full(len(prediction), np.nan)
    return min((logistic(x, *parameters) for parameters in fits), key=lambda values: rmse(truth, values))


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
    return "" if np.isfinite(logistic_mapping(truth, prediction)).all() else "no rising logistic fits (figures after it alone are missing)"


def _fit(x: np.ndarray, truth: np.ndarray, start: tuple[float, ...]) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow in the covariance of the parameters, which nobody reads
        try:
            return np.asarray(curve_fit(logistic, x, truth, p0=start, jac=logistic_jacobian, maxfev=1000)[0])
        except RuntimeError:  # scipy's word for "did not converge"
            return None


def _quiet(correlation: Callable[..., object], truth: np.ndarray, prediction: np.ndarray) -> float:
    if len(truth) < 2 or not np.isfinite(prediction).all():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(correlation(truth, prediction).statistic)  # type: ignore[attr-defined]
