"""Williams' test: do two predictors correlate equally with the same scores?

It takes rows to be independent, which pictures of one prompt are not, so that its p-value may be too small; papers ask for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tier4k.heads.metrics.bootstrap import TestRows
from tier4k.heads.metrics.correlation import Metric, plcc, srcc

WILLIAMS: dict[str, Metric] = {"srcc": srcc, "plcc": plcc}

LEAST_ROWS = 4

SINGULAR = 1e-12  # a determinant of correlations under which it is rounding


@dataclass(frozen=True)
class Williams:
    """What the test says of two runs.

    Attributes:
        p: Two-sided p-value of no difference; NaN where the test does not exist.
        why_not: Why it is NaN, "" where it is not.
    """

    p: float
    why_not: str = ""


def _none(why: str) -> Williams:
    return Williams(float("nan"), why)


def williams(metric: str, first: Sequence[TestRows], second: Sequence[TestRows]) -> Williams:
    """The test of two runs on the same test rows, for one figure of `WILLIAMS`; of SRCC it is the test of the ranks, which is
    approximate (of 3,000 simulated pairs of equally good predictors of 50 independent rows it called .068 different at .05, of PLCC .048).

    Of several repeats it is twice the median of their p-values, at most 1: their rows overlap, and this is a p-value however they depend on
    each other (Meinshausen, Meier & Bühlmann, Journal of the American Statistical Association 104, 2009, with gamma = 1/2).

    Args:
        metric: "srcc" or "plcc".
        first, second: Test rows of every repeat of both runs, in the same order.
    """
    found = [_of_repeat(WILLIAMS[metric], *both) for both in zip(first, second, strict=True)]
    if without := next((one for one in found if one.why_not), None):
        return without
    p = [one.p for one in found]
    return Williams(p[0] if len(p) == 1 else min(1.0, 2 * float(np.median(p))))


def williams_t(first: float, second: float, between: float, rows: int) -> float:
    """T2 of Williams (1959), as recommended by Steiger, Psychological Bulletin 87 (1980), equation 7: t with rows - 3 degrees of freedom.

    (r1 - r2) sqrt((n - 1) (1 + r12) / (2 (n - 1) / (n - 3) |R| + (r1 + r2)^2 / 4 (1 - r12)^3)), with the determinant
    |R| = 1 - r1^2 - r2^2 - r12^2 + 2 r1 r2 r12 of the correlations of the three. It takes rows to be independent and normal.

    Args:
        first, second: Correlations r1 and r2 of two predictors with the scores.
        between: Correlation r12 of the two predictors.
        rows: Number n of rows, 4 or more.
    """
    spread = (
        2 * (rows - 1) / (rows - 3) * _determinant(first, second, between)
        + (first + second) ** 2 / 4 * (1 - between) ** 3
    )
    return float((first - second) * np.sqrt((rows - 1) * (1 + between) / spread))


def _of_repeat(
    correlation: Callable[[np.ndarray, np.ndarray], float], first: TestRows, second: TestRows
) -> Williams:
    rows = len(first.truth)
    if rows < LEAST_ROWS:
        return _none(f"{rows} test rows, {LEAST_ROWS} are needed")
    pairs = (
        (first.truth, first.prediction),
        (first.truth, second.prediction),
        (first.prediction, second.prediction),
    )
    r1, r2, r12 = (correlation(*pair) for pair in pairs)
    if not np.isfinite([r1, r2, r12]).all():
        return _none("a run's correlation does not exist")
    if _determinant(r1, r2, r12) < SINGULAR:
        return _none("scores and predictions determine each other, as where both runs predict the same")
    return Williams(2 * float(student.sf(abs(williams_t(r1, r2, r12, rows)), rows - 3)))


def _determinant(first: float, second: float, between: float) -> float:
    return 1 - first**2 - second**2 - between**2 + 2 * first * second * between
