"""A map from prompts to images: where the images of a prompt should lie, by the images of other prompts.

Two encoders of different checkpoints have no common space, so that image and prompt cannot be compared. A
kernel ridge regression from the text features of training prompts to the mean of each prompt's images makes
such a space, in closed form. Its column for a row is the cosine of the image with the image that is predicted
for its prompt, both relative to the mean image.

Images are unit vectors on their first principal axes; the better an image agrees, the more it counts in the
mean of its prompt (weights exp((y - mean) / deviation) of the scores y). Texts are unit vectors, and
k(t, t') = exp(-|t - t'|^2 / (2 l^2)). With the bordered matrix B = [K + p I, 1; 1', 0] of the prompts and
their mean images M, the prediction is [k(t)', 1] B^-1 [M; 0]. A training row must not be compared with a
prediction that its own prompt has taught. Leaving prompt g out changes the coefficients a = B^-1 [M; 0] to
a - b_g a_g / b_gg, where b_g is column g of B^-1 (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2.7 and 5.4.2), so that no prompt needs a fit of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

# Chosen on validation prompts of AGIQA-3K images (docs/benchmarks.md).
AXES = 50  # principal axes of images
LENGTH_SCALE = 1.0  # l, of texts of length 1
PENALTY = 1.0  # p

ROUNDING = 1e-6  # deviation over the largest under which an axis is none

TENSORS = {
    "image_mean": "i",
    "image_axes": "ik",
    "texts": "pt",
    "coefficients": "pk",
    "constant": "k",
    "mean": "k",
}
"""Shapes of the tensors of a map: the same letter is the same length."""


@dataclass(frozen=True)
class PromptMap:
    """A fitted map from texts of t columns to images of i columns on k axes.

    Attributes:
        image_mean: Means (i,) of the images.
        image_axes: Principal axes (i, k).
        texts: Unit vectors (p, t) of the training prompts.
        coefficients: (p, k) of the texts.
        constant: (k,) added to every prediction.
        mean: Mean image (k,) of the training prompts.
    """

    image_mean: np.ndarray
    image_axes: np.ndarray
    texts: np.ndarray
    coefficients: np.ndarray
    constant: np.ndarray
    mean: np.ndarray

    def cosines(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Return the cosines (N, 1) of images (N, i) with those that are predicted for texts (N, t)."""
        predicted = kernel(unit_rows(texts), self.texts) @ self.coefficients + self.constant
        projected = on_axes(images, self.image_mean, self.image_axes)
        return _cosines(projected - self.mean, predicted - self.mean)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that `restore` reads, by the names in `TENSORS`."""
        return {name: getattr(self, name) for name in TENSORS}

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """Restore a map.

        Raises:
            ValueError: A tensor is missing, or the shapes do not fit each other.
        """
        if set(tensors) != set(TENSORS):
            raise ValueError(f"the tensors of the map are {sorted(tensors)}, expected {sorted(TENSORS)}")
        lengths: dict[str, int] = {}
        for name, shape in TENSORS.items():
            if tensors[name].ndim != len(shape):
                raise ValueError(
                    f"{name} of the map has shape {tensors[name].shape}, expected {len(shape)} axes"
                )
            for letter, length in zip(shape, tensors[name].shape, strict=True):
                if lengths.setdefault(letter, length) != length:
                    raise ValueError(
                        f"{name} of the map has shape {tensors[name].shape}, which fits no other"
                    )
        return cls(**tensors)


def fit_prompt_map(
    images: np.ndarray,
    texts: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
) -> tuple[PromptMap, np.ndarray]:
    """Fit a map to training rows.

    Args:
        images: (N, i) embeddings of the images.
        texts: (N, t) embeddings of their prompts.
        scores: (N,) scores.
        groups: (N,) prompt of each row; three or more prompts.

    Returns:
        The map, and the cosines (N, 1) of the training rows, each as predicted without the row's prompt.
    """
    image_mean, image_axes = principal_axes(images)
    projected = on_axes(images, image_mean, image_axes)
    units = unit_rows(texts)
    _, group = np.unique(groups, return_inverse=True)
    count = group.max() + 1
    weights = np.exp((scores - scores.mean()) / (scores.std() or 1.0))
    prompts = unit_rows(_group_means(units, np.ones(len(units)), group))
    targets = _group_means(projected, weights, group)
    inverse = np.linalg.inv(_bordered(kernel(prompts, prompts)))
    dual = inverse[:, :count] @ targets
    found = PromptMap(image_mean, image_axes, prompts, dual[:count], dual[count], targets.mean(axis=0))
    # Without prompt g: coefficients a - b_g a_g / b_gg, and the mean image of the others.
    bordered = np.column_stack([kernel(units, prompts), np.ones(len(units))])
    shares = (bordered * inverse[group]).sum(axis=1) / inverse[group, group]
    predicted = bordered @ dual - shares[:, None] * dual[group]
    means = (targets.sum(axis=0) - targets[group]) / (count - 1)
    return found, _cosines(projected - means, predicted - means)


def principal_axes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (i,) of images (N, i), and their first principal axes (i, k), k at most `AXES`."""
    images = images.astype(np.float64)
    mean = images.mean(axis=0)
    _, deviations, axes = np.linalg.svd(images - mean, full_matrices=False)
    kept = deviations[:AXES] > ROUNDING * deviations[0]
    return mean, axes[:AXES][kept].T


def on_axes(
    images: np.ndarray,
    mean: np.ndarray,
    axes: np.ndarray,
) -> np.ndarray:
    """Return images (N, i) as unit vectors (N, k) on axes (i, k)."""
    return unit_rows((images.astype(np.float64) - mean) @ axes)


def kernel(texts: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel (N, P) of unit vectors (N, t) and (P, t)."""
    squared = np.maximum(2 - 2 * texts @ others.T, 0)
    return np.exp(-squared / (2 * LENGTH_SCALE**2))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Divide vectors (N, D) by their lengths, float64; a vector of zeros stays one."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def _bordered(kernel_matrix: np.ndarray) -> np.ndarray:
    """Return [K + p I, 1; 1', 0] (P + 1, P + 1): the last coefficient is the constant."""
    count = len(kernel_matrix)
    matrix = np.ones((count + 1, count + 1))
    matrix[:count, :count] = kernel_matrix + PENALTY * np.eye(count)
    matrix[count, count] = 0
    return matrix


def _group_means(
    vectors: np.ndarray,
    weights: np.ndarray,
    group: np.ndarray,
) -> np.ndarray:
    """Return the weighted means (P, D) of vectors (N, D) in each group, given numbers (N,) from 0."""
    members = np.zeros((group.max() + 1, len(group)))
    members[group, np.arange(len(group))] = weights
    return members @ vectors / members.sum(axis=1, keepdims=True)


def _cosines(images: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return (unit_rows(images) * unit_rows(predicted)).sum(axis=1, keepdims=True)
