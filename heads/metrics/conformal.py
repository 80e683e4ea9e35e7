"""Conformal intervals: prediction ± half-width covers the true score of an image of a new prompt.

The half-width is a quantile of the absolute residuals of rows that the head was not trained on (split
conformal; Lei et al., Journal of the American Statistical Association 113, 2018). Rows of one prompt
resemble each other, so that prompts, not rows, are exchangeable: each prompt has the same weight, shared
by its rows, and so has the new prompt, at infinity. The quantile is therefore a quantile of K + 1 prompts,
and holds for any image of a new prompt of the same kind (hierarchical conformal prediction; Lee,
Barber & Willett, arXiv:2306.06342; Dunn, Wasserman & Ramdas, Journal of the American Statistical
Association 118, 2023, compare methods).

The rows are the validation part, which early stopping watches. Heads without a validation part that have
a closed form use the training rows, each predicted by a head fitted without the rows of its prompt.
Neither is as independent as test rows, so the coverage of the test rows is measured and reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.metrics.test_rows import TestRows

LEVEL = 0.9

ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """The interval of one target: prediction ± half-width.

    Attributes:
        half_width: Half-width for the head of every repeat, in units of the score; infinite where prompts
            are too few for the level.
        coverage: Share of the test rows of every repeat whose score lies in the interval; each prompt has the
            same weight.
        prompts: Number of distinct prompts that the half-width of every repeat is computed from.
        level: Nominal coverage.
    """

    half_width: tuple[float, ...]
    coverage: tuple[float, ...]
    prompts: tuple[int, ...]
    level: float = LEVEL

    @classmethod
    def of(cls, held_out: Sequence[TestRows], test: Sequence[TestRows]) -> "Interval":
        """Compute for every repeat the interval from held-out rows, and its coverage of the test rows."""
        widths = []
        coverages = []
        prompts = []
        for own_held_out, own_test in zip(held_out, test, strict=True):
            width = half_width(own_held_out)
            widths.append(width)
            coverages.append(coverage(own_test, width))
            prompts.append(len(np.unique(own_held_out.group)))
        return cls(tuple(widths), tuple(coverages), tuple(prompts))


def half_width(rows: TestRows, level: float = LEVEL) -> float:
    """Return the half-width, in score units, that covers a row of a new prompt with probability >= `level`.

    For K prompts this is the smallest residual r with
    sum over prompts k of (share of k's rows with |residual| <= r) >= level (K + 1).

    Args:
        rows: Rows that the head was not trained on.
        level: Nominal coverage in (0, 1).

    Returns:
        0 or more; infinite where K < level / (1 - level), as even the largest residual covers too little
        then.
    """
    prompts = len(np.unique(rows.group))
    residuals = np.abs(rows.truth - rows.prediction)
    order = np.argsort(residuals, kind="stable")
    covered = np.cumsum(_weights(rows.group)[order]) * prompts
    enough = covered >= level * (prompts + 1) - ROUNDING
    if not enough.any():
        return float("inf")
    return float(residuals[order][enough.argmax()])


def coverage(rows: TestRows, width: float) -> float:
    """Return the share of rows with scores within `width` of the prediction; prompts have equal weights."""
    inside = np.abs(rows.truth - rows.prediction) <= width
    return float(_weights(rows.group) @ inside)


def _weights(group: np.ndarray) -> np.ndarray:
    """Return weights (N,) that sum to 1, with the same sum for every prompt."""
    _, number, rows = np.unique(group, return_inverse=True, return_counts=True)
    return 1 / (len(rows) * rows[number])
