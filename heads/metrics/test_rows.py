"""The test rows of one repeat: what every metric is computed from."""

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
