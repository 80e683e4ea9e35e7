"""Logistic mappings from predictions to scores."""

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.memoize import memoized

MIN_WIDTH = 1e-12

FLAT = 1e-3  # standard deviations of the scores; a curve that rises by less says nothing

NEAR, MOST_STEPS = (
    1e-4,
    200,
)  # of the search for the 5-parameter logistic, in standard deviations of the predictions


def logistic(x: np.ndarray, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
    """The monotonic 4-parameter logistic of VQEG FR-TV phase II (2003), with |width| as there: bottom … top."""
    return bottom + (top - bottom) * expit((x - middle) / max(abs(width), MIN_WIDTH))


def logistic_jacobian(x: np.ndarray, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
    """Derivatives (N, 4) of `logistic` by its parameters."""
    wide = max(abs(width), MIN_WIDTH)
    share = expit((x - middle) / wide)
    slope = (top - bottom) * share * (1 - share) / wide
    return np.stack([share, 1 - share, -slope, -slope * (x - middle) / wide * np.sign(width)], axis=1)


@memoized
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
    fits = [
        parameters
        for start in starts
        if (parameters := _fit(x, truth, start)) is not None and parameters[0] > parameters[1]
    ]
    if not fits:
        return np.full(len(prediction), np.nan)
    return min((logistic(x, *parameters) for parameters in fits), key=lambda values: rmse(truth, values))


def logistic5(
    x: np.ndarray, height: float, slope: float, middle: float, line: float, level: float
) -> np.ndarray:
    """The 5-parameter logistic of Sheikh, Sabir & Bovik, IEEE Trans. Image Processing 15 (2006), equation 10.

    b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5: a logistic plus a straight line.
    """
    return height * (expit(slope * (x - middle)) - 0.5) + line * x + level


def logistic5_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Predictions mapped to the scores by the least-squares `logistic5` of those with b1, b2, b4 >= 0, which rise everywhere, (N,).

    As `logistic_mapping`, and more optimistic yet. All NaN where the best rising curve is flat, or none fits.

    For a given slope and middle the other parameters follow from linear least squares, so that the search is in these two alone
    (variable projection; Golub & Pereyra, SIAM J. Numerical Analysis 10, 1973).
    """
    nothing = np.full(len(prediction), np.nan)
    if (
        len(prediction) < 6
        or not np.isfinite(prediction).all()
        or np.ptp(prediction) == 0
        or np.ptp(truth) == 0
    ):
        return nothing
    x, y = (prediction - np.mean(prediction)) / np.std(prediction), (truth - np.mean(truth)) / np.std(truth)
    best = _rising(x, y, _refined(x, y, _starts5(x, y))[None])[0]
    return best * np.std(truth) + np.mean(truth) if np.ptp(best) > FLAT else nothing


def _starts5(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The best (log b2, b3) of a grid for each of its slopes, (7, 2)."""
    gradients_of, middles = (
        np.log((0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 500.0)),
        np.linspace(x.min() - 3, x.max() + 3, 32),
    )
    places = np.stack(np.meshgrid(gradients_of, middles, indexing="ij"), axis=-1)
    best = _errors(x, y, places.reshape(-1, 2)).reshape(len(gradients_of), -1).argmin(axis=1)
    return places[np.arange(len(gradients_of)), best]


def _refined(x: np.ndarray, y: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The best (log b2, b3), (2,), that a compass search reaches from any of some places (K, 2).

    Every place goes to the best of its eight neighbours, or, where it is better than all, looks nearer around it.
    """
    compass = np.stack(np.meshgrid([0, -1, 1], [0, -1, 1]), axis=-1).reshape(9, 2)  # where it is comes first
    step, rows = np.full(len(places), 0.5), np.arange(len(places))
    for _ in range(MOST_STEPS):
        around = places[:, None] + step[:, None, None] * compass
        best = _errors(x, y, around.reshape(-1, 2)).reshape(-1, 9).argmin(axis=1)
        places, step = around[rows, best], np.where(best == 0, step / 2, step)
        if (step < NEAR).all():
            break
    return places[_errors(x, y, places).argmin()]


def _errors(x: np.ndarray, y: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Squared errors (K,) of the best curves with these (log b2, b3), (K, 2)."""
    return ((_rising(x, y, places) - y) ** 2).sum(1)


def _rising(x: np.ndarray, y: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (K, N) of the best `logistic5` with b1, b4 >= 0 for each of K (log b2, b3), (K, 2); x and y (N,) have mean 0."""
    curve = expit(np.exp(places[:, :1]) * (x - places[:, 1:]))
    curve -= curve.mean(axis=1, keepdims=True)
    # Normal equations of y = height * curve + line * x; with one of the two below zero the best has only the other.
    aa, ab, bb, ay, by = (curve * curve).sum(1), curve @ x, x @ x, curve @ y, x @ y
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = aa * bb - ab * ab
        height, line = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
        alone = np.where(aa > 0, np.maximum(ay, 0) / aa, 0)
    both = (determinant > 1e-12 * aa * bb) & (height >= 0) & (line >= 0)
    curve_alone = alone * ay > max(by, 0) * by / bb  # by how much each alone lessens the squared error
    height = np.where(both, height, np.where(curve_alone, alone, 0))
    line = np.where(both, line, np.where(curve_alone, 0, max(by, 0) / bb))
    return height[:, None] * curve + line[:, None] * x


def _fit(x: np.ndarray, truth: np.ndarray, start: tuple[float, ...]) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # overflow in the covariance of the parameters, which nobody reads
        try:
            return np.asarray(curve_fit(logistic, x, truth, p0=start, jac=logistic_jacobian, maxfev=1000)[0])
        except RuntimeError:  # scipy's word for "did not converge"
            return None
