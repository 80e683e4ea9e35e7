"""Logistic mappings from predictions to scores.

A correlation after a mapping is optimistic by construction, as the mapping is fitted to the scores that
the correlation uses. IQA papers report it beside the raw correlation. Only rising curves count: a falling
curve would turn a model that ranks backwards into a good one, like an absolute value of the correlation.
"""

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.memoize import memoized

MIN_WIDTH = 1e-12

START_WIDTHS = (0.5, 2.0)  # initial widths of the 4-parameter logistic, in deviations of the predictions

FLAT = 1e-3  # standard deviations of the scores; a curve that rises by less is flat

# Search for the 5-parameter logistic, in units of the standard deviation of the predictions.
START_GRADIENTS = (0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 500.0)
START_MIDDLES = 32
LAST_STEP = 1e-4  # the search ends when its steps are smaller
MOST_STEPS = 200

SINGULAR = 1e-12  # a smaller determinant, over the product of the diagonal, may be a rounding error


def logistic(
    x: np.ndarray,
    top: float,
    bottom: float,
    middle: float,
    width: float,
) -> np.ndarray:
    """Evaluate the monotonic 4-parameter logistic of VQEG FR-TV phase II (2003), with |width| as there.

    The values (N,) lie between bottom and top for x (N,).
    """
    return bottom + (top - bottom) * expit((x - middle) / max(abs(width), MIN_WIDTH))


def logistic_jacobian(
    x: np.ndarray,
    top: float,
    bottom: float,
    middle: float,
    width: float,
) -> np.ndarray:
    """Return the derivatives (N, 4) of `logistic` by its parameters, for x (N,)."""
    safe_width = max(abs(width), MIN_WIDTH)
    share = expit((x - middle) / safe_width)
    gradient = (top - bottom) * share * (1 - share) / safe_width
    by_width = -gradient * (x - middle) / safe_width * np.sign(width)
    return np.stack([share, 1 - share, -gradient, by_width], axis=1)


@memoized
def logistic_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Map predictions (N,) to the scores (N,) by the least-squares 4-parameter logistic that rises.

    Returns:
        (N,) in units of the score; all NaN where no rising curve fits, or with fewer than 5 rows.
    """
    if len(prediction) < 5 or not np.isfinite(prediction).all() or np.ptp(prediction) == 0:
        return np.full(len(prediction), np.nan)
    x = (prediction - np.mean(prediction)) / np.std(prediction)
    best = np.full(len(prediction), np.nan)
    least_error = np.inf
    for width in START_WIDTHS:
        start = (np.max(truth), np.min(truth), 0.0, width)
        mapped = _fitted_logistic(x, truth, start)
        if mapped is None:
            continue
        error = rmse(truth, mapped)
        if error < least_error:
            best = mapped
            least_error = error
    return best


def _fitted_logistic(
    x: np.ndarray,
    truth: np.ndarray,
    start: tuple[float, ...],
) -> np.ndarray | None:
    """Fit the logistic from a start; return its values (N,), or None if it falls or does not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        # Overflow in the covariance of the parameters, which is not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            parameters, _ = curve_fit(logistic, x, truth, p0=start, jac=logistic_jacobian, maxfev=1000)
        except RuntimeError:  # scipy's error for a fit that does not converge
            return None
    top, bottom, _, _ = parameters
    rises = top > bottom
    return logistic(x, *parameters) if rises else None


def logistic5(
    x: np.ndarray,
    height: float,
    gradient: float,
    middle: float,
    line: float,
    level: float,
) -> np.ndarray:
    """The 5-parameter logistic of Sheikh, Sabir & Bovik, IEEE Trans. Image Processing 15 (2006), equation 10.

    b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5: a logistic plus a straight line, (N,) for x (N,).
    """
    return height * (expit(gradient * (x - middle)) - 0.5) + line * x + level


def logistic5_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Map predictions (N,) to the scores (N,) by the least-squares `logistic5` that rises everywhere.

    Such curves have b1, b2, b4 >= 0. For a given gradient and middle the other parameters follow from linear
    least squares, so that the search is in gradient and middle alone (variable projection; Golub &
    Pereyra, SIAM J. Numerical Analysis 10, 1973). A correlation after this mapping is more optimistic than
    after `logistic_mapping`.

    Returns:
        (N,) in units of the score; all NaN where the best rising curve is flat, none fits, or with fewer than
        6 rows.
    """
    no_values = np.full(len(prediction), np.nan)
    if len(prediction) < 6 or not np.isfinite(prediction).all():
        return no_values
    if np.ptp(prediction) == 0 or np.ptp(truth) == 0:
        return no_values
    x = (prediction - np.mean(prediction)) / np.std(prediction)
    y = (truth - np.mean(truth)) / np.std(truth)
    place = _refined(x, y, _starts5(x, y))
    best = _best_rising(x, y, place[None])[0]
    if np.ptp(best) <= FLAT:
        return no_values
    return best * np.std(truth) + np.mean(truth)


def _starts5(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the best (log b2, b3) of a grid for each gradient of the grid, (7, 2)."""
    log_gradients = np.log(START_GRADIENTS)
    middles = np.linspace(x.min() - 3, x.max() + 3, START_MIDDLES)
    places = np.stack(np.meshgrid(log_gradients, middles, indexing="ij"), axis=-1)
    errors = _squared_errors(x, y, places.reshape(-1, 2))
    best = errors.reshape(len(log_gradients), -1).argmin(axis=1)
    return places[np.arange(len(log_gradients)), best]


def _refined(
    x: np.ndarray,
    y: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Return the best (log b2, b3), (2,), that a compass search reaches from any of K places (K, 2).

    Every place moves to the best of its eight neighbours. A place that is better than all neighbours halves
    its step.
    """
    # The place itself is the first of the nine.
    compass = np.stack(np.meshgrid([0, -1, 1], [0, -1, 1]), axis=-1).reshape(9, 2)
    step = np.full(len(places), 0.5)
    rows = np.arange(len(places))
    for _ in range(MOST_STEPS):
        around = places[:, None] + step[:, None, None] * compass
        errors = _squared_errors(x, y, around.reshape(-1, 2))
        best = errors.reshape(-1, 9).argmin(axis=1)
        places = around[rows, best]
        step = np.where(best == 0, step / 2, step)
        if (step < LAST_STEP).all():
            break
    return places[_squared_errors(x, y, places).argmin()]


def _squared_errors(
    x: np.ndarray,
    y: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Return squared errors (K,) of the best curves with the given (log b2, b3), (K, 2)."""
    return ((_best_rising(x, y, places) - y) ** 2).sum(1)


def _best_rising(
    x: np.ndarray,
    y: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Return values (K, N) of the best `logistic5` with b1, b4 >= 0 for each of K (log b2, b3), (K, 2).

    x and y (N,) have mean 0. Solves the normal equations of y = height * curve + line * x. Where one of
    the two is negative, the best curve has only the other.
    """
    curve = expit(np.exp(places[:, :1]) * (x - places[:, 1:]))
    curve -= curve.mean(axis=1, keepdims=True)
    aa = (curve * curve).sum(1)
    ab = curve @ x
    bb = x @ x
    ay = curve @ y
    by = x @ y
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = aa * bb - ab * ab
        height = (ay * bb - by * ab) / determinant
        line = (by * aa - ay * ab) / determinant
        height_alone = np.where(aa > 0, np.maximum(ay, 0) / aa, 0)
    line_alone = max(by, 0) / bb
    both = (determinant > SINGULAR * aa * bb) & (height >= 0) & (line >= 0)
    # Compares by how much each alone reduces the squared error.
    curve_is_better = height_alone * ay > max(by, 0) * by / bb
    height = np.where(both, height, np.where(curve_is_better, height_alone, 0))
    line = np.where(both, line, np.where(curve_is_better, 0, line_alone))
    return height[:, None] * curve + line[:, None] * x
