"""Agreement of predicted with true scores. A figure that does not exist is NaN; nothing is made positive."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import product

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit, nnls
from scipy.special import expit
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, spearmanr

MIN_WIDTH = 1e-12
FLAT = 1e-3  # standard deviations of the scores; a curve that rises by less says nothing
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


def logistic5(x: np.ndarray, height: float, slope: float, middle: float, line: float, level: float) -> np.ndarray:
    """The 5-parameter logistic of Sheikh, Sabir & Bovik, IEEE Trans. Image Processing 15 (2006), equation 10.

    b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5: a logistic plus a straight line.
    """
    return height * (expit(slope * (x - middle)) - 0.5) + line * x + level


def logistic5_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Predictions mapped to the scores by the least-squares `logistic5` of those with b1, b2, b4 >= 0, which rise everywhere, (N,).

    As `logistic_mapping`, and more optimistic yet. All NaN where the best rising curve is flat, or none fits.
    """
    nothing = np.full(len(prediction), np.nan)
    if len(prediction) < 6 or not np.isfinite(prediction).all() or np.ptp(prediction) == 0 or np.ptp(truth) == 0:
        return nothing
    x, y = (prediction - np.mean(prediction)) / np.std(prediction), (truth - np.mean(truth)) / np.std(truth)
    low, high = np.array([0, 0, -np.inf, 0, -np.inf]), np.full(5, np.inf)
    fits = []
    for start in _starts5(x, y):
        with suppress(RuntimeError), np.errstate(over="ignore"), warnings.catch_warnings():  # RuntimeError: it did not converge
            warnings.simplefilter("ignore", OptimizeWarning)
            fits.append(logistic5(x, *curve_fit(logistic5, x, y, p0=start, bounds=(low, high), max_nfev=1000)[0]))
    best = min(fits, key=lambda mapped: rmse(y, mapped), default=nothing)
    return best * np.std(truth) + np.mean(truth) if np.ptp(best) > FLAT else nothing


def _starts5(x: np.ndarray, y: np.ndarray) -> list[tuple[float, ...]]:
    """The best three of a grid of slopes and middles, with the other parameters by non-negative least squares (y has mean 0)."""
    found = []
    for slope, middle in product((0.5, 1.0, 2.0, 5.0, 20.0, 100.0), np.linspace(x.min() - 3, x.max() + 3, 16)):
        columns = np.stack([expit(slope * (x - middle)) - 0.5, x], axis=1)
        centre = columns.mean(axis=0)
        (height, line), error = nnls(columns - centre, y)
        found.append((error, (height, slope, float(middle), line, -float(centre @ (height, line)))))
    return [start for _, start in sorted(found)[:3]]


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
