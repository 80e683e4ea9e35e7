"""Inputs and scores of mean 0 and deviation 1 in training, undone in the fitted weights."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Standardization:
    """x -> (x - mean) / scale for inputs (d,) and the score; heads fold it into their weights once they are fitted."""

    mean: np.ndarray
    scale: np.ndarray
    score_mean: float
    score_scale: float

    @classmethod
    def of(cls, inputs: np.ndarray, scores: np.ndarray) -> "Standardization":
        """Mean and standard deviation of training rows (N, d) and their scores (N,)."""
        mean, scale = inputs.mean(0, dtype=np.float64), inputs.std(0, dtype=np.float64)
        # A column that hardly moves in training may jump in a test picture; divided by its own tiny deviation it would then
        # outweigh all others, so no column is divided by less than a tenth of the typical deviation.
        scale = np.maximum(scale, 0.1 * np.median(scale))
        scale[scale <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1.0
        return cls(mean, scale, float(scores.mean()), float(scores.std()) or 1.0)

    @classmethod
    def none(cls, width: int) -> "Standardization":
        """The identity."""
        return cls(np.zeros(width), np.ones(width), 0.0, 1.0)

    def inputs(self, fused: np.ndarray) -> np.ndarray:
        """Standardised inputs (N, d)."""
        return (fused - self.mean) / self.scale

    def scores(self, scores: np.ndarray) -> np.ndarray:
        """Standardised scores (N,)."""
        return (scores - self.score_mean) / self.score_scale

    def unscale(self, predicted: np.ndarray) -> np.ndarray:
        """Standardised scores (...) as scores, float64."""
        return predicted.astype(np.float64) * self.score_scale + self.score_mean
