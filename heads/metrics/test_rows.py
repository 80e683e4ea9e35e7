"""The test rows of one repeat: what every metric is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TestRows:
    """The test rows of one repeat.

    Attributes:
        group: Prompt of each row (N,).
        generator: Text-to-image model of each row (N,).
        truth: Scores (N,).
        prediction: Predictions (N,).
    """

    __test__ = False  # pytest takes classes of this name for tests

    group: np.ndarray
    generator: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def columns_of(repeats: Sequence[TestRows]) -> list[np.ndarray]:
    """List the columns of the test rows of all repeats, one repeat after the other.

    Memoized functions take these columns as arguments, as their results are kept by the contents of arrays.
    """
    columns = []
    for rows in repeats:
        columns += [rows.group, rows.generator, rows.truth, rows.prediction]
    return columns


def from_columns(columns: Sequence[np.ndarray]) -> list[TestRows]:
    """Return the test rows of every repeat, given what `columns_of` returned."""
    repeats = []
    for start in range(0, len(columns), 4):
        repeats.append(TestRows(*columns[start : start + 4]))
    return repeats
