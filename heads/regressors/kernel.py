"""Kernel heads: kernel ridge regression and support vector regression.

Both use the Gaussian kernel k(x, x') = exp(-|x - x'|^2 / (2 l^2 d)) of standardized vectors of d columns,
so that a length-scale l means the same for any encoder. A fitted head is its expansion f(x) = sum_i a_i
k(x, x_i) + b. Its tensors are the training rows x_i and the coefficients a_i, so nothing needs to be
pickled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.regressors.base import (
    BaseHead,
    EpochListener,
    FitTask,
    HeldOut,
    Weights,
    checked_tensors,
    with_same_rows,
)
from tier4k.heads.regressors.options import Limits, Range, require_within
from tier4k.heads.regressors.standardization import Standardization

BLOCK_ROWS = 4096  # rows predicted at once

LENGTH_SCALES = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)

PENALTIES = tuple(np.logspace(-4, 2, 25).tolist())

SHAPES = {"mean": "d", "scale": "d", "rows": "nd", "dual": "n", "bias": "1", "length_scale": "1"}


@dataclass(frozen=True)
class _TrainingRows:
    """Standardized training rows and the matrices that all heads fitted on them share.

    Attributes:
        scaling: The standardization of the rows.
        rows: Standardized rows (N, d) float32.
        distances: |x - x'|^2 / d of every two rows (N, N).
        decompositions: By length-scale, eigenvalues (N,) and eigenvectors (N, N) computed so far.
    """

    scaling: Standardization
    rows: np.ndarray
    distances: np.ndarray
    decompositions: dict[float, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: np.ndarray) -> Self:
        """Standardize rows X (N, d) and compute their distances."""
        scaling = Standardization.of(X, np.zeros(len(X)))
        # Rounded as they are stored, so that a stored head predicts the same.
        rows = scaling.inputs(X).astype(np.float32)
        return cls(scaling, rows, _distances(rows, rows))

    def decompose(self, length_scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return eigenvalues (N,) and eigenvectors (N, N) of the kernel matrix; compute them only once."""
        if length_scale not in self.decompositions:
            eigenvalues, vectors = np.linalg.eigh(_kernel(self.distances, length_scale))
            self.decompositions[length_scale] = np.maximum(eigenvalues, 0), vectors
        return self.decompositions[length_scale]

    def expansion(
        self,
        numbers: np.ndarray,
        dual: np.ndarray,
        bias: float,
        length_scale: float,
    ) -> Weights:
        """Return the tensors of a head with coefficients `dual` (M,) of the rows `numbers` (M,)."""
        rows = self.rows if len(numbers) == len(self.rows) else self.rows[numbers]
        return {
            "mean": self.scaling.mean,
            "scale": self.scaling.scale,
            "rows": rows,
            "dual": dual,
            "bias": np.array([bias]),
            "length_scale": np.array([length_scale]),
        }


class _KernelHead(BaseHead):
    """A head that is a weighted sum of kernels; subclasses compute the coefficients."""

    # If two crops of an image were rows, leaving one out would keep the image's score in the other.
    averages_crops: ClassVar[bool] = True
    limits: ClassVar[Limits] = {}
    weights_: Weights
    n_features_in_: int

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,  # noqa: ARG002
        on_epoch: EpochListener | None = None,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,).

        Args:
            X: Fused vectors.
            y: Mean opinion scores.
            validation: Not used by kernel heads.
            on_epoch: Called once, with 1 and a function that predicts, as training is one epoch.
            groups: (N,) prompt of each row of X; a kernel ridge needs the prompts for `held_out_`.

        Raises:
            HeadError: An option is out of its limits.
        """
        require_within(self.get_params(), self.limits)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            y_numeric=True,
            ensure_min_samples=2,
        )
        self._fit_rows(_TrainingRows.of(X), y, groups)
        if on_epoch:
            on_epoch(1, self.predict)
        return self

    @classmethod
    def fit_many(
        cls,
        heads: Sequence["_KernelHead"],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fit several heads on rows of one matrix X (N, d).

        Heads with the same training rows share distances and decompositions.
        """
        for train, numbers in with_same_rows(tasks):
            rows = _TrainingRows.of(X[train].astype(np.float64))
            for number in numbers:
                head = heads[number]
                task = tasks[number]
                require_within(head.get_params(), head.limits)
                head._fit_rows(rows, task.scores[train], task.train_groups())
                if task.on_epoch:
                    task.on_epoch(1, head.predict)
                finished(number)

    def _fit_rows(
        self,
        rows: _TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,
    ) -> None:
        raise NotImplementedError

    def _set_weights(self, weights: Weights) -> None:
        self.weights_ = weights
        self.n_features_in_ = len(weights["mean"])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return scores (N,) float64 of fused vectors X (N, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        weights = self.weights_
        inputs = (X - weights["mean"]) / weights["scale"]
        sums = []
        for start in range(0, len(inputs), BLOCK_ROWS):
            distances = _distances(inputs[start : start + BLOCK_ROWS], weights["rows"])
            sums.append(_kernel(distances, weights["length_scale"][0]) @ weights["dual"])
        return np.concatenate(sums) + weights["bias"][0]

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from its tensors.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = cls(**options)
        head._set_weights(checked_tensors(weights, SHAPES, "kernel head"))
        return head


class KernelRidgeHead(_KernelHead):
    """Kernel ridge regression, also the mean of a Gaussian process.

    Length-scale and penalty have the least leave-one-out error. With centred scores y and the kernel
    matrix K = U diag(e) U' of the training rows, the coefficients at penalty p are a = U diag(1 / (e +
    p)) U'y, and the leave-one-out residuals a_i / c_i, c being the diagonal of U diag(1 / (e + p)) U'
    (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2.2 and 5.4.2): one decomposition for
    each length-scale serves every penalty and every target. On real data this choice ranked validation
    images better than the choice by the marginal likelihood.

    Args:
        length_scales: Length-scales to choose from, in units of the square root of the number of columns.
        penalties: Penalties to choose from; for a Gaussian process, the variance of the noise over
            the variance of the signal.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (N, d) standardized training rows, `dual` (N,), `bias` (1,),
            `length_scale` (1,).
        length_scale_: The chosen length-scale.
        penalty_: The chosen penalty.
        held_out_: (N,) scores of the training rows, each as predicted without the rows of its group; None
            without groups.
        error_: Mean squared leave-one-out error at each length-scale and penalty (L, P), in squared score
            units.
    """

    limits: ClassVar[Limits] = {
        "length_scales": Range(0, without_least=True),
        "penalties": Range(0, without_least=True),
    }
    held_out_: np.ndarray | None

    def __init__(
        self,
        length_scales: tuple[float, ...] = LENGTH_SCALES,
        penalties: tuple[float, ...] = PENALTIES,
    ) -> None:
        self.length_scales = length_scales
        self.penalties = penalties

    @property
    def held_out_prediction(self) -> np.ndarray | None:
        """(n,) scores of the training rows, each predicted without its group; None without groups."""
        return self.held_out_

    def _fit_rows(
        self,
        rows: _TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,
    ) -> None:
        scores = y - y.mean()
        self._choose(rows, scores)
        eigenvalues, vectors = rows.decompose(self.length_scale_)
        dual = vectors @ ((vectors.T @ scores) / (eigenvalues + self.penalty_))
        self.held_out_ = None
        if groups is not None:
            inverse = vectors / (eigenvalues + self.penalty_) @ vectors.T
            self.held_out_ = y - _leave_groups_out(inverse, dual, groups)
        self._set_weights(rows.expansion(np.arange(len(y)), dual, y.mean(), self.length_scale_))

    def _choose(self, rows: _TrainingRows, scores: np.ndarray) -> None:
        penalties = np.asarray(self.penalties)
        errors = []
        for length_scale in self.length_scales:
            eigenvalues, vectors = rows.decompose(length_scale)
            errors.append(_leave_one_out(eigenvalues, vectors, scores, penalties))
        self.error_ = np.array(errors)
        best_scale, best_penalty = np.unravel_index(np.argmin(self.error_), self.error_.shape)
        self.length_scale_ = self.length_scales[best_scale]
        self.penalty_ = self.penalties[best_penalty]

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from its tensors.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = super().from_weights(weights, **options)
        head.held_out_ = None
        return head


class SVRHead(_KernelHead):
    """Support vector regression by scikit-learn's `SVR` (Drucker et al., 1997) on standardized scores.

    The defaults ranked validation images best. The validation images were cut out of the training
    parts of splits that the tables in README do not use.

    Args:
        C: Weight of errors against flatness.
        epsilon: Largest error that costs nothing, in standard deviations of the score.
        length_scale: Length-scale of the kernel, in units of the square root of the number of columns.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (M, d) support vectors, `dual` (M,), `bias` (1,),
            `length_scale` (1,).
    """

    limits: ClassVar[Limits] = {
        "C": Range(0, without_least=True),
        "epsilon": Range(0),
        "length_scale": Range(0, without_least=True),
    }

    def __init__(
        self,
        C: float = 2.0,
        epsilon: float = 0.1,
        length_scale: float = 1.0,
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.length_scale = length_scale

    def _fit_rows(
        self,
        rows: _TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,  # noqa: ARG002
    ) -> None:
        mean = y.mean()
        deviation = y.std() or 1.0
        machine = SVR(kernel="precomputed", C=self.C, epsilon=self.epsilon)
        machine.fit(_kernel(rows.distances, self.length_scale), (y - mean) / deviation)
        dual = deviation * machine.dual_coef_[0]
        bias = mean + deviation * machine.intercept_[0]
        self._set_weights(rows.expansion(machine.support_, dual, bias, self.length_scale))


def _distances(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return squared distances (M, N), over d, of inputs (M, d) from rows (N, d) of d columns, float64."""
    inputs = inputs.astype(np.float64)
    rows = rows.astype(np.float64)
    squared = (inputs**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * inputs @ rows.T
    return np.maximum(squared, 0) / inputs.shape[1]


def _kernel(distances: np.ndarray, length_scale: float) -> np.ndarray:
    return np.exp(-distances / (2 * length_scale**2))


def _leave_one_out(
    eigenvalues: np.ndarray,
    vectors: np.ndarray,
    scores: np.ndarray,
    penalties: np.ndarray,
) -> np.ndarray:
    """Return the mean squared leave-one-out residual (P,) at each penalty."""
    inverse = 1 / (eigenvalues + penalties[:, None])
    dual = (inverse * (vectors.T @ scores)) @ vectors.T
    diagonal = inverse @ (vectors**2).T
    return np.mean((dual / diagonal) ** 2, axis=1)


def _leave_groups_out(
    inverse: np.ndarray,
    dual: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """Return the residual (N,) of each row by a fit without the rows of its group.

    C_gg^-1 a_g with C the inverse of K + p I and a = C y: the block form of the leave-one-out residual.
    Inputs and scores stay standardized by all rows.
    """
    residuals = dual.copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        residuals[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
    return residuals
