"""What kernel heads have in common.

They use the Gaussian kernel k(x, x') = exp(-|x - x'|^2 / (2 l^2 d)) of standardized vectors of d columns, so
that a length-scale l means the same for any encoder. A fitted head is its expansion
f(x) = sum_i a_i k(x, x_i) + b. Its tensors are the training rows x_i and the coefficients a_i, so nothing
needs to be pickled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.kernel_streams import kernel_columns, squared_distances
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask, Weights, with_same_rows
from tier4k.heads.regressors.tensors import checked_tensors

BLOCK_ROWS = 4096  # rows predicted at once

SHAPES = {"mean": "d", "scale": "d", "rows": "nd", "dual": "n", "bias": "1"}

LENGTH_SCALE_SHAPE = {"length_scale": "1"}  # of the joint kernel

Spectrum = tuple[np.ndarray, np.ndarray]
"""Eigenvalues (N,) and eigenvectors (N, N) of a kernel matrix."""


@dataclass(frozen=True)
class TrainingRows:
    """Standardized training rows and the matrices that all heads fitted on them share.

    Attributes:
        scaling: The standardization of the rows.
        rows: Standardized rows (N, d) float32.
        streams: The streams of the columns.
        spectra: Spectra of the joint kernel computed so far, by length-scale.
        known_distances: |x_s - x'_s|^2 / d_s (N, N) of every two rows computed so far, by the columns of s.
    """

    scaling: Standardization
    rows: np.ndarray
    streams: Streams
    spectra: dict[float, Spectrum] = field(default_factory=dict)
    known_distances: dict[bytes, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, X: np.ndarray, streams: Streams) -> Self:
        """Standardize rows X (N, d)."""
        scaling = Standardization.of(X, np.zeros(len(X)), streams)
        # Rounded as they are stored, so that a stored head predicts the same.
        rows = scaling.inputs(X).astype(np.float32)
        return cls(scaling, rows, streams)

    @cached_property
    def distances(self) -> np.ndarray:
        """|x - x'|^2 / d (N, N) of every two rows."""
        return squared_distances(self.rows, self.rows)

    def columns(self, kernels: str) -> dict[str, np.ndarray]:
        """Return the columns (d,) bool of each group that has one kernel."""
        return kernel_columns(kernels, self.streams)

    def group_distances(self, kernels: str) -> dict[str, np.ndarray]:
        """Return |x_s - x'_s|^2 / d_s (N, N) of every two rows by group; compute each only once."""
        distances = {}
        for group, own in self.columns(kernels).items():
            key = own.tobytes()
            if key not in self.known_distances:
                self.known_distances[key] = squared_distances(self.rows[:, own], self.rows[:, own])
            distances[group] = self.known_distances[key]
        return distances

    def joint_spectrum(self, length_scale: float) -> Spectrum:
        """Return the spectrum of the joint kernel; compute it only once."""
        if length_scale not in self.spectra:
            self.spectra[length_scale] = spectrum_of(gaussian(self.distances, length_scale))
        return self.spectra[length_scale]

    def expansion(
        self,
        numbers: np.ndarray,
        dual: np.ndarray,
        bias: float,
        kernel: Weights,
    ) -> Weights:
        """Return the tensors of a head.

        Args:
            numbers: (M,) numbers of the rows in the sum.
            dual: Coefficients (M,) of these rows.
            bias: The constant.
            kernel: Tensors of the kernel.
        """
        rows = self.rows if len(numbers) == len(self.rows) else self.rows[numbers]
        return {
            "mean": self.scaling.mean,
            "scale": self.scaling.scale,
            "rows": rows,
            "dual": dual,
            "bias": np.array([bias]),
            **kernel,
        }


class KernelHead(BaseHead):
    """A head that is a weighted sum of kernels; subclasses compute the coefficients."""

    # If two crops of an image were rows, leaving one out would keep the image's score in the other.
    averages_crops: ClassVar[bool] = True

    @classmethod
    def _fit_many(
        cls,
        heads: Sequence[Self],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None],
        streams: Streams,
        device: str,  # noqa: ARG003
    ) -> None:
        """Fit several heads; heads with the same training rows share distances and decompositions."""
        for train, numbers in with_same_rows(tasks):
            rows = TrainingRows.of(X[train].astype(np.float64), streams)
            for number in numbers:
                head = heads[number]
                task = tasks[number]
                head._fit_rows(rows, task.scores[train], task.train_groups())
                task.report_only_epoch(X, head._predict)
                finished(number)

    def _fit_rows(
        self,
        rows: TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,
    ) -> None:
        """Fit to the scores y (N,) of the training rows, whose prompts are `groups` (N,); set `weights_`."""
        raise NotImplementedError

    def _predict(self, X: np.ndarray) -> np.ndarray:
        weights = self.weights_
        inputs = (X.astype(np.float64) - weights["mean"]) / weights["scale"]
        sums = []
        for start in range(0, len(inputs), BLOCK_ROWS):
            sums.append(self._kernel(inputs[start : start + BLOCK_ROWS]) @ weights["dual"])
        return np.concatenate(sums) + weights["bias"][0]

    def _kernel(self, inputs: np.ndarray) -> np.ndarray:
        """Return the kernel (M, N) of standardized inputs (M, d) and the rows in `weights_`."""
        distances = squared_distances(inputs, self.weights_["rows"])
        return gaussian(distances, self.weights_["length_scale"][0])

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights_ = checked_tensors(weights, SHAPES | LENGTH_SCALE_SHAPE, "kernel head")
        self.n_features_in_ = len(self.weights_["mean"])


def gaussian(distances: np.ndarray, length_scale: float) -> np.ndarray:
    """Return the Gaussian kernel (M, N) of distances |x - x'|^2 / d (M, N)."""
    return np.exp(-distances / (2 * length_scale**2))


def spectrum_of(kernel: np.ndarray) -> Spectrum:
    """Return the spectrum of a kernel matrix (N, N); eigenvalues below zero are rounding errors."""
    eigenvalues, vectors = np.linalg.eigh(kernel)
    return np.maximum(eigenvalues, 0), vectors
