"""Search for the place of the least-squares rising logistic.

For a given middle and width the other two parameters follow from linear least squares (variable projection;
Golub & Pereyra, SIAM J. Numerical Analysis 10, 1973), and the error is least where the curve's correlation
with the scores is greatest. So the search maximizes that correlation over middle and width: a grid of curves,
then Newton's method from the best of them and from the best steps.

Equal inputs give results that are equal bit by bit: every sum is one of numpy's own loops over a new
contiguous array. A product of the linear algebra library may depend on the address of its input.

Here predictions x (N,) and scores y (N,) have mean 0 and deviation 1, and x rises. A place is a middle and a
width in units of x; K places are two arrays (K,).
"""

from dataclasses import dataclass

import numpy as np

KNOTS = 33  # largest number of predictions between which the curves of the grid rise

BEYOND = np.array([0.125, 0.25, 0.5, 1.0, 2.0, 4.0])  # knots outside, in ranges of the predictions

SPANS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 44)  # knots from the foot of a curve of the grid to its top

WIDTHS_IN_RISE = 4  # from foot to top

STEP_STARTS = 6

ROUNDS = ((30, 2), (10, 4), (4, 40))  # number of places that go on, and their Newton steps, in each round

LONGEST_MOVE = 1.5  # of a Newton step, in widths and in the logarithm of the width

LEAST_GAIN = 1e-14  # a place whose correlation grows relatively less has arrived

# The limits of the family, between which the search stays. A logistic whose middle is 15 widths beyond all
# predictions differs from an exponential by e^-15; one that is 1,000 deviations wide is a straight line.
FARTHEST_MIDDLE = 15.0
WIDEST = 1e3
NARROWEST = 1e-12


@dataclass(frozen=True)
class Rise:
    """A curve that rises, and by how much it reduces the sum of squares of the scores.

    Attributes:
        curve: Values (N,), the least-squares fit to the scores among the multiples of this curve.
        reduction: From 0, for a flat curve, to N, for a curve through all scores.
    """

    curve: np.ndarray
    reduction: float


def best_logistic(x: np.ndarray, y: np.ndarray, split: np.ndarray) -> Rise:
    """Return the least-squares rising logistic for predictions x (N,) and scores y (N,).

    Args:
        x: Predictions, rising, with mean 0 and deviation 1.
        y: Scores, with mean 0 and deviation 1.
        split: Reduction (N - 1,) by a step before each row but the first, as the search starts at the best.
    """
    middle, width = _starts(x, y, split)
    state = _evaluated(x, y, middle, width)
    radius = np.ones(len(middle))
    for places, steps in ROUNDS:
        best = np.argsort(-state[2], kind="stable")[:places]
        state, radius = _climbed(x, y, state[:, best], radius[best], steps)
    if not state.shape[1]:
        return Rise(np.zeros_like(x), 0.0)
    best = state[2].argmax()
