"""Search for the middle and the width of the least-squares rising logistic.

For a given middle and width the other two parameters follow from linear least squares (variable projection;
Golub & Pereyra, SIAM J. Numerical Analysis 10, 1973), and the error is least where the curve's correlation
with the scores is greatest. So the search maximizes this correlation over two parameters: it tries a grid of
curves and the best steps, and climbs from the best of these by Newton's method.

Equal inputs give results that are equal bit by bit, as every sum is a loop of numpy over a new contiguous
array. Products of a linear algebra library are not used: they may depend on the address of their input.

Predictions x (N,) and scores y (N,) have mean 0 and deviation 1 here, and x rises. A place (2,) is the middle
and the width of a logistic in units of x; K places are an array (2, K).
"""

import math

import numpy as np

# Curves of the grid rise between two knots. Knots are predictions, and some points beyond them.
KNOTS = 24  # at most, among the predictions
BEYOND = np.array([0.125, 0.25, 0.5, 1.0, 2.0, 4.0])  # in ranges of the predictions
SPANS = (1, 2, 4, 7, 12, 20, 30)  # number of knots from the foot of a curve to its top
WIDTHS_OF_RISE = 4

STEPS = 4  # number of best steps to start from

# Small sets have narrower optima, so they get more starts; the work stays about constant.
FEWEST_STARTS = 24
MOST_STARTS = 40
VALUES_OF_STARTS = 4000  # starts times rows

# Three rounds: 1 / ONE_OF of the starts, the best ones, take part in a round, with at most MOVES moves each.
ONE_OF = (1, 3, 8)
MOVES = (2, 2, 30)

LONGEST_MOVE = 1.5  # in widths, and in the logarithm of the width
SHORTEST_MOVE = 1e-8
LEAST_GAIN = 1e-9  # a place has converged if a move adds a smaller share to its correlation
CATCH_UP_MOVES = 100  # a place stops if so many moves of equal gain would not reach the best place

# Limits of the search. A logistic whose middle is 20 widths beyond all predictions is an exponential (it
# differs by a share of e^-20), and one that is 1,000 deviations wide is a straight line.
FARTHEST_MIDDLE = 20.0
WIDEST = 1e3
NARROWEST = 1e-12

SMALLEST_VARIANCE = 1e-12  # a smaller variance of a curve of the grid may be a rounding error

TINY = np.finfo(float).tiny

# Rows of the array (8, K) that describes K places: the place, its correlation times sqrt(N), and the
# derivatives of the correlation's logarithm.
PLACE = slice(0, 2)
CORRELATION = 2
DERIVATIVES = slice(3, 8)


def least_squares_logistic(
    x: np.ndarray,
    y: np.ndarray,
    step_gains: np.ndarray,
) -> np.ndarray:
    """Return the values (N,) of the rising logistic with the least squared error.

    Args:
        x: Predictions.
        y: Scores.
        step_gains: By how much a step between two neighbours reduces the sum of squared errors (N - 1,); 0
            where it would fall or the two predictions are equal.

    Returns:
        Values with mean 0; all 0 where no curve that the search starts from rises.
    """
    # Exponentials overflow to infinity, and 1 / (1 + infinity) is 0, which is right. Divisions by zero occur
    # only at places that do not rise, or their results are replaced.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return _searched(x, y, step_gains)


def _searched(
    x: np.ndarray,
    y: np.ndarray,
    step_gains: np.ndarray,
) -> np.ndarray:
    """Return what `least_squares_logistic` returns."""
    starts = max(FEWEST_STARTS, min(MOST_STARTS, VALUES_OF_STARTS // len(x)))
    by_steps = _step_places(x, step_gains)
    by_grid = _grid_places(x, y, starts - by_steps.shape[1])
    climbers = _described(x, y, np.concatenate([by_grid, by_steps], axis=1))
    climbers = climbers[:, climbers[CORRELATION] > 0]
    if not climbers.shape[1]:
        return np.zeros_like(x)
    reach = np.ones(climbers.shape[1])
    for one_of, moves in zip(ONE_OF, MOVES, strict=True):
        best = np.argsort(-climbers[CORRELATION], kind="stable")[: math.ceil(starts / one_of)]
        climbers, reach = _climbed(x, y, climbers[:, best], reach[best], moves)
    winner = climbers[CORRELATION].argmax()
    _, curve, _ = _curves(x, climbers[PLACE, winner, None])
    curve = curve[0] - np.mean(curve[0])
    return curve * (np.sum(curve * y) / np.sum(curve * curve))


def _grid_places(
    x: np.ndarray,
    y: np.ndarray,
    count: int,
) -> np.ndarray:
    """Return up to `count` places of the grid: the best of each span, then the best of the local maxima."""
    knots = _knots(x)
    places = []
    ranks = []
    for span in SPANS:
        if span >= len(knots):
            break
        of_span = _between(knots[:-span], knots[span:])
        correlation = _grid_correlations(x, y, of_span)
        bounded = np.concatenate([[-np.inf], correlation, [-np.inf]])
        is_peak = (correlation >= bounded[:-2]) & (correlation > bounded[2:])
        rank = np.where(is_peak, correlation, 0)
        rank[correlation.argmax()] += 1 + len(x)  # above every correlation times sqrt(N)
        places.append(of_span)
        ranks.append(np.where(correlation > 0, rank, 0))
    best = np.argsort(-np.concatenate(ranks), kind="stable")[:count]
    return np.concatenate(places, axis=1)[:, best]


def _knots(x: np.ndarray) -> np.ndarray:
    """Return rising knots: up to `KNOTS` distinct predictions at equal ranks, and points beyond them."""
    distinct = x[np.concatenate([[True], x[1:] > x[:-1]])]
    if len(distinct) > KNOTS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, KNOTS).astype(int)]
    beyond = BEYOND * (distinct[-1] - distinct[0])
    return np.concatenate([distinct[0] - beyond[::-1], distinct, distinct[-1] + beyond])


def _between(foot: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return places (2, K) of logistics that rise between foot (K,) and top (K,)."""
    return np.stack([(foot + top) / 2, (top - foot) / WIDTHS_OF_RISE])


def _grid_correlations(
    x: np.ndarray,
    y: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Return sqrt(N) times the correlations (K,) with y of the logistics at places (2, K).

    This is faster than `_described`, and less accurate for curves that are almost constant.
    """
    middle, width = places
    curve = np.multiply.outer(-1 / width, x)
    curve += (middle / width)[:, None]
    np.exp(curve, out=curve)
    curve += 1
    np.reciprocal(curve, out=curve)
    total = curve.sum(axis=1)
    spread = np.einsum("kn,kn->k", curve, curve) - total * total / len(x)
    exists = spread > SMALLEST_VARIANCE * len(x)
    product = np.einsum("kn,n->k", curve, y)
    return np.where(exists, product / np.sqrt(np.where(exists, spread, 1)), 0)


def _step_places(x: np.ndarray, step_gains: np.ndarray) -> np.ndarray:
    """Return places (2, K) near the best steps: in the gap, and among the rows before and after the gap."""
    best = np.argsort(-step_gains, kind="stable")[:STEPS]
    best = best[step_gains[best] > 0]
    before, foot, top, after = (x[np.clip(best + offset, 0, len(x) - 1)] for offset in (-1, 0, 1, 2))
    in_gap = _between(foot, top)
    below = np.stack([foot, np.maximum(foot - before, NARROWEST)])
    above = np.stack([top, np.maximum(after - top, NARROWEST)])
    return np.concatenate([in_gap, below, above], axis=1)


def _climbed(
    x: np.ndarray,
    y: np.ndarray,
    climbers: np.ndarray,
    reach: np.ndarray,
    moves: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Move places to higher correlations, each by Newton's method in a trust region.

    Args:
        x: Predictions.
        y: Scores.
        climbers: Places with a positive correlation (8, K), as `_described` describes them.
        reach: Radius of each place's trust region (K,).
        moves: Largest number of moves.

    Returns:
        The places that are reached (8, K), and their radii (K,).
    """
    lowest, highest = x[0], x[-1]
    for _ in range(moves):
        shift, growth = _newton_moves(climbers[DERIVATIVES])
        length = np.hypot(shift, growth)
        shortened = np.minimum(1, reach / np.maximum(length, TINY))
        width = climbers[1] * np.exp(growth * shortened)
        width = np.minimum(np.maximum(width, NARROWEST), WIDEST)
        middle = climbers[0] + climbers[1] * shift * shortened
        beyond = FARTHEST_MIDDLE * width
        middle = np.minimum(np.maximum(middle, lowest - beyond), highest + beyond)
        moved = _described(x, y, np.array([middle, width]))
        gain = moved[CORRELATION] / climbers[CORRELATION] - 1
        is_higher = gain > 0
        climbers = np.where(is_higher, moved, climbers)
        reach = np.where(is_higher, np.minimum(2 * reach, LONGEST_MOVE), length * shortened / 4)
        deficit = climbers[CORRELATION].max() / climbers[CORRELATION] - 1
        is_done = is_higher & (gain < np.maximum(LEAST_GAIN, deficit / CATCH_UP_MOVES))
        if (is_done | (np.abs(gain) < LEAST_GAIN) | (reach < SHORTEST_MOVE)).all():
            break
    return climbers, reach


def _newton_moves(derivatives: np.ndarray) -> np.ndarray:
    """Return Newton's moves (2, K) to a maximum: in widths, and in the logarithm of the width.

    The second derivatives are shifted where they are not those of a maximum.

    Args:
        derivatives: Two first derivatives, then the second derivatives by the first parameter, both, and the
            second parameter (5, K).
    """
    by_shift, by_growth, *second = derivatives
    a, b, c = -second[0], -second[1], -second[2]
    mean = (a + c) / 2
    radius = np.hypot((a - c) / 2, b)  # the eigenvalues are mean - radius and mean + radius
    shift = np.maximum(0, 2 * (radius - mean)) + 1e-9 * radius + TINY
    a = a + shift
    c = c + shift
    moves = np.array([c * by_shift - b * by_growth, a * by_growth - b * by_shift]) / (a * c - b * b)
    return np.where(np.isfinite(moves), moves, 0)


def _curves(x: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logistics of height 1 at places (2, K).

    A logistic with its middle on the left has values from -1 to 0, the others from 0 to 1. So the values of
    an almost exponential curve are near 0, where floating-point numbers are dense.

    Returns:
        z = (x - middle) / width (K, N), the curve (K, N), and 1 or, for a middle on the left, -1 (K, 1).
    """
    middle, width = places[..., None]
    side = np.where(middle < 0, -1.0, 1.0)
    z = (x - middle) / width
    return z, side / (1 + np.exp(-side * z)), side


def _described(
    x: np.ndarray,
    y: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Describe places (2, K) by their correlations, and by the derivatives of the logarithms of these.

    Derivatives are by t and l at 0, for the middle m + w t and the width w e^l of the place (m, w). With the
    centred curve c, A = sum(c y) and B = sum(c^2), the correlation is A / sqrt(B N).

    Returns:
        (8, K), see `PLACE`, `CORRELATION` and `DERIVATIVES`; the correlation is -1 where it is not positive.
    """
    z, curve, side = _curves(x, places)
    share = np.abs(curve)
    by_z = np.empty((5, *z.shape))  # p, p z, q, q z, q z^2 with the derivatives p and q of the curve by z
    by_z[0] = share - share * share
    by_z[1] = by_z[0] * z
    by_z[2] = by_z[0] * (side - 2 * curve)
    by_z[3] = by_z[2] * z
    by_z[4] = by_z[3] * z
    curve = curve - curve.sum(axis=1, keepdims=True) / len(x)
    product = np.einsum("kn,n->k", curve, y)
    square = np.einsum("kn,kn->k", curve, curve)
    described = np.empty((8, len(square)))
    described[PLACE] = places
    rises = (product > 0) & (square > TINY)
    described[CORRELATION] = np.where(rises, product / np.sqrt(square), -1)
    # Derivatives of z by t and l are -1 and -z, second ones 0 (t t), 1 (t l) and z (l l).
    with_y = np.einsum("akn,n->ak", by_z, y) / product
    with_curve = np.einsum("akn,kn->ak", by_z, curve) / square
    first = by_z[:2]
    sums = first.sum(axis=2)
    squares = np.einsum("akn,bkn->abk", first, first) - sums[:, None] * sums / len(x)
    gram = squares / square
    p, pz, q, qz, qzz = with_y - with_curve
    described[3] = -p
    described[4] = -pz
    described[5] = q - gram[0, 0] - with_y[0] ** 2 + 2 * with_curve[0] ** 2
    described[6] = qz + p - gram[0, 1] - with_y[0] * with_y[1] + 2 * with_curve[0] * with_curve[1]
    described[7] = qzz + pz - gram[1, 1] - with_y[1] ** 2 + 2 * with_curve[1] ** 2
    return described
