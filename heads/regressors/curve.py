"""A rising curve through points, which continues beyond its ends."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """The piecewise-linear curve through points, extended beyond both ends with its mean gradient.

    If x and y rise strictly, the curve does too, so that it keeps the order of values.

    Attributes:
        x: Sorted positions (m,), at least one.
        y: Sorted values (m,) there.
    """

    x: np.ndarray
    y: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the curve at the given values, in their shape, float64; NaN stays NaN."""
        beyond = values - np.clip(values, self.x[0], self.x[-1])
        return np.interp(values, self.x, self.y) + self.mean_gradient * beyond

    @property
    def mean_gradient(self) -> float:
        """Height of the curve over its width; a height or a width of 0 counts as 1."""
        return float((np.ptp(self.y) or 1.0) / (np.ptp(self.x) or 1.0))

    def inverse(self) -> "Curve":
        """Return the curve from values to positions."""
        return Curve(self.y, self.x)
