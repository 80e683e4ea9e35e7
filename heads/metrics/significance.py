"""Holm's correction of the p-values of several tests."""

import numpy as np


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
