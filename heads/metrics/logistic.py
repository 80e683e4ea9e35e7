"""The logistic mapping from predictions to scores.

A correlation after a mapping is optimistic by construction, as the mapping is fitted to the scores that
the correlation uses. IQA papers report it beside the raw correlation. Only rising curves count: a falling
curve would turn a model that ranks backwards into a good one, like an absolute value of the correlation.
"""

from itertools import pairwise

import numpy as np

from tier4k.heads.metrics.correlation import is_constant
from tier4k.heads.metrics.logistic_search import least_squares_logistic
from tier4k.heads.metrics.memoize import memoized

LEAST_ROWS = 5  # one more than the curve has parameters

FLAT = 1e-3  # standard deviations of the scores; a curve that rises by less is flat


@memoized
def logistic_mapping(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Map predictions (N,) to the scores (N,) by the least-squares 4-parameter logistic that rises.

    The curve is bottom + (top - bottom) / (1 + exp(-(x - middle) / width)) of VQEG FR-TV phase II (2003),
    with top > bottom and width > 0. The limits of such curves belong to the family: a straight line (infinite
    width), an exponential (middle at infinity) and a step (width 0), on which one prediction may lie between
    bottom and top. Without them some scores would have no best curve.

    The result depends on the values alone, to the last bit: not on the order of the rows, nor on where the
    arrays lie in memory.

    Returns:
        (N,) in units of the score; all NaN where the best rising curve is flat, where all predictions or
        scores are equal, or with fewer than 5 rows.
    """
    no_values = np.full(len(prediction), np.nan)
    if len(prediction) < LEAST_ROWS or not np.isfinite(prediction).all():
        return no_values
    if is_constant(prediction) or is_constant(truth):
        return no_values
    order = np.lexsort((truth, prediction))
    scores = truth[order].astype(float)
    x = _standardized(prediction[order].astype(float))
    y = _standardized(scores)
    curve = _least_squares_curve(x, y)
    if np.ptp(curve) <= FLAT:
        return no_values
    mapped = np.empty(len(x))
    mapped[order] = curve * np.std(scores) + np.mean(scores)
    return mapped


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - np.mean(values)) / np.std(values)


def _least_squares_curve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values (N,) of the best curve of the family for standardized x (N,), rising, and y (N,)."""
    gains = _step_gains(x, y)
    curves = [least_squares_logistic(x, y, gains), _best_step(y, gains), _best_step_through_a_point(x, y)]
    return min(curves, key=lambda curve: float(np.sum((y - curve) ** 2)))


def _step_gains(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return by how much a step between two neighbours reduces the sum of squares (N - 1,).

    It is 0 where the best step would fall or the predictions are equal.
    """
    rows = len(y)
    below = np.arange(1, rows)
    total_below = np.cumsum(y)[:-1]  # the scores above have the opposite total
    rises = (x[1:] > x[:-1]) & (total_below < 0)
    return np.where(rises, total_below**2 * rows / (below * (rows - below)), 0)


def _best_step(y: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the values (N,) of the best step, given what `_step_gains` returned; all 0 where none rises."""
    if not gains.any():
        return np.zeros_like(y)
    return _levels(y, [0, int(gains.argmax()) + 1, len(y)])


def _best_step_through_a_point(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values (N,) of the best step on which one prediction lies; all 0 where none rises.

    Bottom, top and the level between are then the mean scores below, above and at the prediction.
    """
    starts = np.flatnonzero(np.concatenate([[True], x[1:] > x[:-1]]))
    if len(starts) < 3:
        return np.zeros_like(y)
    start, end = starts[1:-1], starts[2:]
    total = np.concatenate([[0.0], np.cumsum(y)])
    below = total[start] / start
    between = (total[end] - total[start]) / (end - start)
    above = (total[-1] - total[end]) / (len(y) - end)
    gains = below**2 * start + between**2 * (end - start) + above**2 * (len(y) - end)
    gains = np.where((below <= between) & (between <= above), gains, 0)
    best = gains.argmax()
    if not gains[best]:
        return np.zeros_like(y)
    return _levels(y, [0, int(start[best]), int(end[best]), len(y)])


def _levels(y: np.ndarray, bounds: list[int]) -> np.ndarray:
    """Replace y (N,) by its mean between every two bounds."""
    levels = np.empty_like(y)
    for start, end in pairwise(bounds):
        levels[start:end] = np.mean(y[start:end])
    return levels
