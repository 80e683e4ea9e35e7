"""Williams' test of the hypothesis that two predictors correlate equally with the same scores.

The test assumes independent rows. Images of one prompt are not independent, so the p-value may be too small.
The test is reported because papers use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tier4k.heads.metrics.correlation import Metric, plcc, srcc
from tier4k.heads.metrics.test_rows import TestRows

WILLIAMS: dict[str, Metric] = {"srcc": srcc, "plcc": plcc}

LEAST_ROWS = 4

SINGULAR = 1e-12  # a smaller determinant of correlations may be a rounding error


@dataclass(frozen=True)
class Williams:
    """Result of the test for two runs.

    Attributes:
        p: Two-sided p-value of no difference in [0, 1]; NaN where the test does not exist.
        why_not: Reason why p is NaN; "" where p is not NaN.
    """

    p: float
    why_not: str = ""


def williams(
    metric: str,
    first: Sequence[TestRows],
    second: Sequence[TestRows],
) -> Williams:
    """Test two runs on the same test rows, in one metric of `WILLIAMS`.

    For SRCC this is the test of the ranks, which is approximate: of 3,000 simulated pairs of equally good
    predictors of 50 independent rows, .068 differed at the level .05 (PLCC: .048).

    For several repeats the result is twice the median of the repeats' p-values, at most 1. The repeats share
    rows, and this result is a p-value under any dependence (Meinshausen, Meier & Bühlmann, Journal of the
    American Statistical Association 104, 2009, with gamma = 1/2).

    Args:
        metric: "srcc" or "plcc".
        first: Test rows of every repeat of one run.
        second: Test rows of every repeat of the other run, in the same order.
    """
    p = []
    for first_rows, second_rows in zip(first, second, strict=True):
        result = _test_repeat(WILLIAMS[metric], first_rows, second_rows)
        if result.why_not:
            return result
        p.append(result.p)
    if len(p) == 1:
        return Williams(p[0])
    return Williams(min(1.0, 2 * float(np.median(p))))


def williams_t(
    first: float,
    second: float,
    between: float,
    rows: int,
) -> float:
    """Return T2 of Williams (1959), as recommended by Steiger, Psychological Bulletin 87 (1980), equation 7.

    (r1 - r2) sqrt((n - 1) (1 + r12) / (2 (n - 1) / (n - 3) |R| + (r1 + r2)^2 / 4 (1 - r12)^3)), with the
    determinant |R| = 1 - r1^2 - r2^2 - r12^2 + 2 r1 r2 r12 of the three correlations. T2 has
    Student's t distribution with rows - 3 degrees of freedom for independent normal rows.

    Args:
        first: Correlation r1 of one predictor with the scores, in [-1, 1].
        second: Correlation r2 of the other predictor with the scores.
        between: Correlation r12 of the two predictors.
        rows: Number n of rows, 4 or more.
    """
    determinant_term = 2 * (rows - 1) / (rows - 3) * _determinant(first, second, between)
    mean_term = (first + second) ** 2 / 4 * (1 - between) ** 3
    spread = determinant_term + mean_term
    return float((first - second) * np.sqrt((rows - 1) * (1 + between) / spread))


def _test_repeat(
    correlation: Metric,
    first: TestRows,
    second: TestRows,
) -> Williams:
    rows = len(first.truth)
    if rows < LEAST_ROWS:
        return _undefined(f"the repeat has {rows} test rows, but the test needs {LEAST_ROWS}")
    r1 = correlation(first.truth, first.prediction)
    r2 = correlation(first.truth, second.prediction)
    r12 = correlation(first.prediction, second.prediction)
    if not np.isfinite([r1, r2, r12]).all():
        return _undefined("a run's correlation does not exist")
    if _determinant(r1, r2, r12) < SINGULAR:
        return _undefined("scores and predictions determine each other, as where both runs predict the same")
    t = williams_t(r1, r2, r12, rows)
    return Williams(2 * float(student.sf(abs(t), rows - 3)))


def _undefined(reason: str) -> Williams:
    return Williams(float("nan"), reason)


def _determinant(
    first: float,
    second: float,
    between: float,
) -> float:
    return 1 - first**2 - second**2 - between**2 + 2 * first * second * between
