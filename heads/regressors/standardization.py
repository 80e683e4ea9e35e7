"""Standardization of inputs and scores to mean 0 and deviation 1, folded into the weights after training."""

from dataclasses import dataclass

import numpy as np

from tier4k.heads.data.streams import Streams

SMALLEST_SHARE = 0.1  # smallest divisor of a column, as a share of the median deviation of its stream

CONSTANT = 1e-6  # deviation over mean under which a column is constant


@dataclass(frozen=True)
class Standardization:
    """x -> (x - mean) / scale for inputs (d,) and for the score.

    Attributes:
        mean: Means (d,) of the inputs.
        scale: Divisors (d,) of the inputs.
        score_mean: Mean of the scores.
        score_scale: Divisor of the scores.
    """

    mean: np.ndarray
    scale: np.ndarray
    score_mean: float
    score_scale: float

    @classmethod
    def of(
        cls,
        inputs: np.ndarray,
        scores: np.ndarray,
        streams: Streams | None = None,
    ) -> "Standardization":
        """Compute mean and standard deviation of training rows (N, d) and their scores (N,).

        Args:
            inputs: Fused vectors of the training rows.
            scores: Scores of the training rows.
            streams: The streams of the columns, whose values may differ by orders of magnitude; None for one
                stream.
        """
        mean = inputs.mean(0, dtype=np.float64)
        scale = inputs.std(0, dtype=np.float64)
        # A column that is almost constant in training may differ widely in a test image. Divided by its own
        # tiny deviation it would outweigh all others.
        for columns in (streams or Streams.of(image=len(scale))).columns:
            scale[columns] = np.maximum(scale[columns], SMALLEST_SHARE * np.median(scale[columns]))
        constant = scale <= CONSTANT * np.maximum(np.abs(mean), 1e-6)
        scale[constant] = 1.0
        return cls(mean, scale, float(scores.mean()), float(scores.std()) or 1.0)

    @classmethod
    def none(cls, width: int) -> "Standardization":
        """Return the identity for inputs of `width` columns."""
        return cls(np.zeros(width), np.ones(width), 0.0, 1.0)

    def inputs(self, fused: np.ndarray) -> np.ndarray:
        """Return the standardized inputs (N, d) of fused vectors (N, d)."""
        return (fused - self.mean) / self.scale

    def scores(self, scores: np.ndarray) -> np.ndarray:
        """Standardize scores (N,)."""
        return (scores - self.score_mean) / self.score_scale

    def unscale(self, predicted: np.ndarray) -> np.ndarray:
        """Convert standardized scores (...) to units of the score, float64."""
        return predicted.astype(np.float64) * self.score_scale + self.score_mean
