"""Significance of differences: p-values of bootstrapped differences and Holm's correction."""

import numpy as np

# The smallest p-value must stay small after Holm's correction of a table of a hundred comparisons.
RESAMPLES = 10_000


def smallest_holm_p(comparisons: int) -> float:
    """Return the smallest p-value, in (0, 1], that `RESAMPLES` allow after Holm's correction."""
    return min(1.0, 2 * comparisons / (RESAMPLES + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values (K,) in [0, 1] for K tests by the step-down rule of Holm (1979).

    NaN stays NaN and does not count as a test.
    """
    corrected = np.full(len(p), np.nan)
    ascending = np.argsort(p, kind="stable")
    order = ascending[np.isfinite(p[ascending])]
    largest = 0.0
    for rank, index in enumerate(order):
        corrected_alone = min(1.0, float(p[index]) * (len(order) - rank))
        largest = max(largest, corrected_alone)
        corrected[index] = largest
    return corrected


def two_sided_p(differences: np.ndarray) -> float:
    """Return the two-sided p-value in (0, 1] of no difference, given bootstrapped differences (B,).

    The p-value is twice the smaller share of resamples on either side of 0, with one added to both counts as
    for Monte Carlo tests (Davison & Hinkley, Bootstrap Methods and their Application, 1997, chapter 4).
    Resamples that are not finite do not count; NaN if no resample is finite.
    """
    finite = differences[np.isfinite(differences)]
    if not len(finite):
        return float("nan")
    below = int((finite <= 0).sum())
    above = int((finite >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(finite) + 1))
