"""Significance of differences: p-values and Holm's correction."""

import numpy as np

RESAMPLES = (
    10_000  # so that a p-value can be small enough for Holm's correction of a table of a hundred comparisons
)


def least_p_holm(comparisons: int) -> float:
    """The least p-value that the resamples can tell after Holm's correction for so many comparisons."""
    return min(1.0, 2 * comparisons / (RESAMPLES + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """P-values (K,) corrected for K tests by the step-down rule of Holm (1979); NaN stays NaN and counts for nothing."""
    out = np.full(len(p), np.nan)
    order = [index for index in np.argsort(p, kind="stable") if np.isfinite(p[index])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, float(p[index]) * (len(order) - rank)))
        out[index] = largest
    return out


def _p(differences: np.ndarray) -> float:
    finite = differences[np.isfinite(differences)]
    below, above = int((finite <= 0).sum()), int((finite >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(finite) + 1)) if len(finite) else float("nan")
