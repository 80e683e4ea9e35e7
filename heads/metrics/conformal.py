"""Conformal intervals of single predictions: how far the true scores of pictures of new prompts lie from what a head predicts.

The half-width is a quantile of the absolute residuals of rows that the head was not trained on (split conformal; Lei et al., Journal
of the American Statistical Association 113, 2018). The rows of one prompt resemble each other, so that prompts, not rows, are
exchangeable: each prompt has the same weight, shared by its rows, and the new prompt has one too, at infinity. So 1 of K + 1 prompts
is what the promise rests on, and it holds for any picture of a new prompt of the same kind (hierarchical conformal prediction; Lee,
Barber & Willett, arXiv:2306.06342; Dunn, Wasserman & Ramdas, Journal of the American Statistical Association 118, 2023, compare ways).

The rows: the validation part, which early stopping looked at, or, for heads without one that know them in closed form, the rows of
training, each predicted by a head that has not seen its prompt. Neither is as untouched as test rows; so the coverage of the test rows
is measured and told.
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
        half_width: In units of the score, for the head of every repeat; infinite where there are too few prompts to promise anything.
        coverage: Share of the test rows whose score lies inside, each prompt weighing the same, of every repeat.
        prompts: Distinct prompts that each half-width rests on.
        level: The share that is promised.
    """

    half_width: tuple[float, ...]
    coverage: tuple[float, ...]
    prompts: tuple[int, ...]
    level: float = LEVEL

    @classmethod
    def of(cls, held_out: Sequence[TestRows], test: Sequence[TestRows]) -> "Interval":
        """From rows that were held out of training, and the test rows that the coverage is measured on, both for every repeat."""
        widths = [half_width(rows) for rows in held_out]
        covered = [coverage(rows, width) for rows, width in zip(test, widths, strict=True)]
        return cls(tuple(widths), tuple(covered), tuple(len(np.unique(rows.group)) for rows in held_out))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Interval":
        """Read back from JSON, where null stands for infinity."""
        widths = tuple(float("inf") if width is None else float(width) for width in values["half_width"])
        return cls(widths, tuple(values["coverage"]), tuple(values["prompts"]), values["level"])


def half_width(rows: TestRows, level: float = LEVEL) -> float:
    """The half-width, in units of the score, that covers a row of a new prompt with probability `level` or more.

    The smallest residual r with sum over prompts k of (share of k's rows with |residual| <= r) >= level (K + 1), for K prompts.

    Args:
        rows: Rows that the head was not trained on.
        level: The share to be covered.

    Returns:
        Infinity where K < level / (1 - level), as then even the largest residual promises too little.
    """
    weights = _weights(rows.group)
    residuals = np.abs(rows.truth - rows.prediction)
    order = np.argsort(residuals, kind="stable")
    prompts = len(np.unique(rows.group))
    enough = np.cumsum(weights[order]) * prompts >= level * (prompts + 1) - ROUNDING
    return float(residuals[order][enough.argmax()]) if enough.any() else float("inf")


def coverage(rows: TestRows, width: float) -> float:
    """Share of rows whose score is at most `width` from its prediction, each prompt weighing the same."""
    return float(_weights(rows.group) @ (np.abs(rows.truth - rows.prediction) <= width))


def _weights(group: np.ndarray) -> np.ndarray:
    """(N,) weights that sum to 1, with the same sum for every prompt."""
    _, number, rows = np.unique(group, return_inverse=True, return_counts=True)
    return 1 / (len(rows) * rows[number])
