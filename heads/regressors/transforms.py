"""Transforms that every head can have: of the image features that it reads, and of the scores that it fits.

`image_transform` (`transform` on the command line): with "sqrt", an image feature x becomes sign(x) sqrt|x|,
which shortens the long tails of pooled features; text features and zero-shot scores stay as they are.

`target_transform`: with "rank-gauss", a training score becomes the normal quantile of its mid-rank r among
the n training scores, Phi^-1((r - 1/2) / n) (van der Waerden scores; equal scores have equal ranks), and the
head's predictions are mapped back through the same pairs. The score at a predicted quantile is not the mean
score to expect there, as the curve through the pairs is not straight. "rank-gauss-mean" gives this mean: it
maps a prediction z to the mean of the scores at z + r_i over the training rows i, where r_i is the residual
of row i, predicted without its prompt (the smearing estimate; Duan, JASA 78, 1983). Both keep the order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.curve import Curve

IMAGE_TRANSFORMS = ("none", "sqrt")

TARGET_TRANSFORMS = ("none", "rank-gauss")

SMEARED = "rank-gauss-mean"

WITH_SMEARED = (*TARGET_TRANSFORMS, SMEARED)  # of heads that predict training rows without their prompt

SMEARED_POINTS = 201  # of the tabulated curve; its error is far below the noise of scores

COLUMNS = "image_transform.columns"  # name of the tensor (d,) bool: the columns whose root is taken

CURVE = "target_transform.curve"  # name of the tensor (2, m): normal quantiles, and the scores there


@dataclass(frozen=True)
class Transforms:
    """The fitted transforms of one head; without any, inputs and scores stay as they are.

    Attributes:
        columns: (d,) bool, the columns whose signed root is taken; None for none.
        curve: Maps predicted normal quantiles to scores; None where the head is fitted to the scores
            themselves. Before `smeared`, its inverse maps training scores to quantiles.
    """

    columns: np.ndarray | None = None
    curve: Curve | None = None

    @classmethod
    def of(
        cls,
        image_transform: str,
        target_transform: str,
        streams: Streams,
        scores: np.ndarray,
    ) -> "Transforms":
        """Fit the transforms with these names to the columns of streams and to training scores (n,)."""
        columns = None
        if image_transform == "sqrt":
            columns = streams.mask("image", "image-prompt")
        curve = None if target_transform == "none" else rank_gauss(scores)
        return cls(columns, curve)

    @classmethod
    def restore(
        cls,
        image_transform: str,
        target_transform: str,
        weights: Mapping[str, np.ndarray],
        width: int,
    ) -> "Transforms":
        """Restore the transforms with these names from a head's tensors.

        Args:
            image_transform, target_transform: Names of the transforms.
            weights: Tensors of the head.
            width: Number d of columns of the fused vectors.

        Raises:
            ValueError: A tensor is missing, or does not fit the names or the head.
        """
        expected = set()
        if image_transform == "sqrt":
            expected.add(COLUMNS)
        if target_transform != "none":
            expected.add(CURVE)
        found = {COLUMNS, CURVE} & set(weights)
        if found != expected:
            raise ValueError(
                f"not the weights of a head with image_transform={image_transform} and "
                f"target_transform={target_transform}: expected the tensors {sorted(expected)}, "
                f"found {sorted(found)}"
            )
        return cls(
            _checked_columns(weights[COLUMNS], width) if COLUMNS in found else None,
            _checked_curve(weights[CURVE]) if CURVE in found else None,
        )

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that `restore` reads; none without transforms."""
        tensors = {}
        if self.columns is not None:
            tensors[COLUMNS] = self.columns
        if self.curve is not None:
            tensors[CURVE] = np.stack([self.curve.x, self.curve.y])
        return tensors

    def inputs(self, X: np.ndarray) -> np.ndarray:
        """Return the inputs (N, d) of the head's model for fused vectors X (N, d), in their type."""
        return X if self.columns is None else signed_root(X, self.columns)

    def targets(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores that the head's model is fitted to, for scores of any shape; NaN stays NaN."""
        return scores if self.curve is None else self.curve.inverse()(scores)

    def scores(self, predicted: np.ndarray) -> np.ndarray:
        """Map predictions of the head's model, of any shape, back to units of the score."""
        return predicted if self.curve is None else self.curve(predicted)

    def smeared(self, residuals: np.ndarray) -> "Transforms":
        """Return transforms that map predictions back to the mean scores to expect.

        Args:
            residuals: (n,) residuals of training rows in normal quantiles, each predicted without its prompt.
        """
        assert self.curve is not None
        return replace(self, curve=smear(self.curve, residuals))


def without_transforms(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a head's model alone."""
    return {name: values for name, values in weights.items() if name not in (COLUMNS, CURVE)}


def signed_root(X: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return a copy of X (N, d) with sign(x) sqrt|x| in the columns (d,) that are true."""
    rooted = X.copy()
    part = X[:, columns]
    rooted[:, columns] = np.sign(part) * np.sqrt(np.abs(part))
    return rooted


def rank_gauss(scores: np.ndarray) -> Curve:
    """Return the curve from the normal quantiles of finite scores' mid-ranks to the scores (n,)."""
    quantiles = ndtri((rankdata(scores) - 0.5) / len(scores))
    distinct, first = np.unique(scores, return_index=True)
    return Curve(quantiles[first], distinct.astype(np.float64))


def smear(curve: Curve, residuals: np.ndarray) -> Curve:
    """Return the curve from z to the mean of `curve` at z + r over residuals r (n,), between its ends."""
    if len(curve.x) == 1:  # all scores are equal
        return curve
    x = np.linspace(curve.x[0], curve.x[-1], SMEARED_POINTS)
    return Curve(x, np.array([curve(place + residuals).mean() for place in x]))


def _checked_columns(columns: np.ndarray, width: int) -> np.ndarray:
    if columns.shape != (width,) or columns.dtype != bool:
        raise ValueError(
            f"{COLUMNS} has shape {columns.shape} and type {columns.dtype}, expected ({width},) bool"
        )
    return columns


def _checked_curve(points: np.ndarray) -> Curve:
    is_curve = points.ndim == 2 and len(points) == 2 and points.shape[1] > 0
    if not is_curve or not np.isfinite(points).all() or (np.diff(points) <= 0).any():
        raise ValueError(f"{CURVE} of shape {points.shape} does not have two rows of finite, rising values")
    return Curve(*points)
