"""Conformal intervals: prediction ± half-width covers the true score of an image of a new prompt.

The half-width is a quantile of the absolute residuals of rows that the head was not trained on (split
conformal; Lei et al., Journal of the American Statistical Association 113, 2018). Rows of one prompt
resemble each other, so that prompts, not rows, are exchangeable: each prompt has the same weight, shared
by its rows, and the new prompt has one too, at infinity. The quantile is therefore one of K + 1 prompts,
and it holds for any image of a new prompt of the same kind (hierarchical conformal prediction; Lee,
Barber & Willett, arXiv:2306.06342; Dunn, Wasserman & Ramdas, Journal of the American Statistical
Association 118, 2023, compare methods).

The rows are the validation part, which early stopping watches. Heads without a validation part that have
a closed form use the training rows, each predicted by a head fitted without the rows of its prompt.
Neither is as independent as test rows, so the coverage of the test rows is measured and reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tier4k.heads.metrics.bootstrap import TestRows

LEVEL = 0.9

ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """The interval of one target: prediction ± half-width.

    Attributes:
        half_width: Of the head of every repeat, in units of the score; infinite where there are too few
            prompts for the level.
        coverage: Of every repeat, share of the test rows whose score lies inside; each prompt has the same
            weight.
        prompts: Of every repeat, distinct prompts that the half-width is computed from.
        level: Nominal coverage.
    """

    half_width: tuple[float, ...]
    coverage: tuple[float, ...]
    prompts: tuple[int, ...]
    level: float = LEVEL

    @classmethod
    def of(cls, held_out: Sequence[TestRows], test: Sequence[TestRows]) -> "Interval":
        """The interval of rows held out of training, and its coverage of test rows, both for every repeat."""
        widths = []
        covered = []
        prompts = []
        for own_held_out, own_test in zip(held_out, test, strict=True):
            width = half_width(own_held_out)
            widths.append(width)
            covered.append(coverage(own_test, width))
            prompts.append(len(np.unique(own_held_out.group)))
        return cls(tuple(widths), tuple(covered), tuple(prompts))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Interval":
        """Read back from JSON, where null stands for infinity."""
        widths = [float("inf") if width is None else float(width) for width in values["half_width"]]
        return cls(tuple(widths), tuple(values["coverage"]), tuple(values["prompts"]), values["level"])


def half_width(rows: TestRows, level: float = LEVEL) -> float:
    """The half-width, in units of the score, that covers a row of a new prompt with probability >= `level`.

    For K prompts it is the smallest residual r with
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
    """Share of rows in [0, 1] whose score is at most `width` from its prediction; prompts weigh the same."""
    inside = np.abs(rows.truth - rows.prediction) <= width
    return float(_weights(rows.group) @ inside)


def _weights(group: np.ndarray) -> np.ndarray:
    """(N,) weights that sum to 1, with the same sum for every prompt."""
    _, number, rows = np.unique(group, return_inverse=True, return_counts=True)
    return 1 / (len(rows) * rows[number])
