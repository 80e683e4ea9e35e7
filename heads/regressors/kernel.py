"""Heads that compare a fused vector with those of the training rows: kernel ridge regression and support vector regression.

Both use the Gaussian kernel k(x, x') = exp(-|x - x'|^2 / (2 l^2 d)) of standardised vectors of d columns, so that a length-scale l
means the same for any encoder. A fitted head is its expansion f(x) = sum_i a_i k(x, x_i) + b, whose tensors are what it needs of the
training rows: nothing is pickled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.regressors.base import (
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
class _Rows:
    """Standardised training rows (N, d), float32, their distances (N, N), |x - x'|^2 / d, and kernels made of them before."""

    scaling: Standardization
    rows: np.ndarray
    distances: np.ndarray
    known: dict[float, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: np.ndarray) -> Self:
        """Standardise rows X (N, d) and measure their distances."""
        scaling = Standardization.of(X, np.zeros(len(X)))
        rows = scaling.inputs(X).astype(
            np.float32
        )  # as they will be stored, so that a stored head predicts the same
        return cls(scaling, rows, _distances(rows, rows))

    def decomposed(self, length_scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (N,) and eigenvectors (N, N) of the kernel matrix; once for all heads."""
        if length_scale not in self.known:
            eigenvalues, vectors = np.linalg.eigh(_kernel(self.distances, length_scale))
            self.known[length_scale] = np.maximum(eigenvalues, 0), vectors
        return self.known[length_scale]

    def expansion(self, kept: np.ndarray, dual: np.ndarray, bias: float, length_scale: float) -> Weights:
        """The tensors of a head with coefficients `dual` (M,) of the kept rows (M,)."""
        rows = self.rows if len(kept) == len(self.rows) else self.rows[kept]
        one = np.array([bias]), np.array([length_scale])
        return {
            "mean": self.scaling.mean,
            "scale": self.scaling.scale,
            "rows": rows,
            "dual": dual,
            "bias": one[0],
            "length_scale": one[1],
        }


class _KernelHead(RegressorMixin, BaseEstimator):
    """What both have in common."""

    averages_views: ClassVar[bool] = (
        True  # two views of one picture among the rows would give its score away to each other
    )
    limits: ClassVar[Limits] = {}
    weights_: Weights

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
            validation: Not needed, and not looked at.
            on_epoch: Called once, with 1 and a function that predicts: all of the training is one epoch.
            groups: Prompt of each row of X (N,); asks a kernel ridge for `held_out_`.
        """
        require_within(self.get_params(), self.limits)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._learn(_Rows.of(X), y, groups)
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
        """Fit several heads on rows of one matrix X (N, d); those with the same training rows share distances and decompositions."""
        for train, numbers in with_same_rows(tasks):
            rows = _Rows.of(X[train].astype(np.float64))
            for number in numbers:
                head, task = heads[number], tasks[number]
                require_within(head.get_params(), head.limits)
                head._learn(rows, task.scores[train], task.groups())
                if task.on_epoch:
                    task.on_epoch(1, head.predict)
                finished(number)

    def _learn(self, rows: _Rows, y: np.ndarray, groups: np.ndarray | None) -> None:
        raise NotImplementedError

    def _keep(self, weights: Weights) -> None:
        self.weights_ = weights
        self.n_features_in_ = len(weights["mean"])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of fused vectors X (N, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        weights = self.weights_
        inputs = (X - weights["mean"]) / weights["scale"]
        blocks = (inputs[start : start + BLOCK_ROWS] for start in range(0, len(inputs), BLOCK_ROWS))
        kernels = (
            _kernel(_distances(block, weights["rows"]), weights["length_scale"][0]) for block in blocks
        )
        return np.concatenate([kernel @ weights["dual"] for kernel in kernels]) + weights["bias"][0]

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """A fitted head from its tensors.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = cls(**options)
        head._keep(checked_tensors(weights, SHAPES, "kernel head"))
        return head


class KernelRidgeHead(_KernelHead):
    """Kernel ridge regression, also the mean of a Gaussian process; length-scale and penalty have the least leave-one-out error.

    With centred scores y and the kernel matrix K = U diag(e) U' of the training rows, the coefficients at penalty p are
    a = U diag(1 / (e + p)) U'y, and the leave-one-out residuals a_i / c_i, c being the diagonal of U diag(1 / (e + p)) U' (Rasmussen &
    Williams, Gaussian Processes for Machine Learning, 2.2 and 5.4.2): one decomposition for each length-scale serves every
    penalty and every target. On real data this choice ranked validation pictures better than that by the marginal likelihood.

    Args:
        length_scales: Length-scales to choose from, in units of the square root of the number of columns.
        penalties: Penalties to choose from; of a Gaussian process, the variance of the noise over that of the signal.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (N, d) standardised training rows, `dual` (N,), `bias` (1,), `length_scale` (1,).
        length_scale_, penalty_: The chosen ones.
        held_out_: (N,) scores of the training rows, each as predicted without the rows of its group; only where `fit` was told of groups.
        error_: Mean squared leave-one-out error at each length-scale and penalty (L, P), in squared score units.
    """

    limits: ClassVar[Limits] = {
        "length_scales": Range(0, without_least=True),
        "penalties": Range(0, without_least=True),
    }

    def __init__(
        self, length_scales: tuple[float, ...] = LENGTH_SCALES, penalties: tuple[float, ...] = PENALTIES
    ) -> None:
        self.length_scales = length_scales
        self.penalties = penalties

    def _learn(self, rows: _Rows, y: np.ndarray, groups: np.ndarray | None) -> None:
        scores, penalties = y - y.mean(), np.asarray(self.penalties)
        self.error_ = np.array(
            [_leave_one_out(*rows.decomposed(scale), scores, penalties) for scale in self.length_scales]
        )
        best = np.unravel_index(np.argmin(self.error_), self.error_.shape)
        self.length_scale_, self.penalty_ = self.length_scales[best[0]], self.penalties[best[1]]
        eigenvalues, vectors = rows.decomposed(self.length_scale_)
        dual = vectors @ ((vectors.T @ scores) / (eigenvalues + self.penalty_))
        if groups is not None:
            self.held_out_ = y - _leave_groups_out(
                vectors / (eigenvalues + self.penalty_) @ vectors.T, dual, groups
            )
        self._keep(rows.expansion(np.arange(len(y)), dual, y.mean(), self.length_scale_))


class SVRHead(_KernelHead):
    """Support vector regression by scikit-learn's `SVR` (Drucker et al., 1997) on standardised scores.

    The defaults ranked validation pictures best, cut out of the training parts of other splits than those of README's tables.

    Args:
        C: Weight of errors against flatness.
        epsilon: Errors below it cost nothing, in standard deviations of the score.
        length_scale: Of the kernel, in units of the square root of the number of columns.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (M, d) support vectors, `dual` (M,), `bias` (1,), `length_scale` (1,).
    """

    limits: ClassVar[Limits] = {
        "C": Range(0, without_least=True),
        "epsilon": Range(0),
        "length_scale": Range(0, without_least=True),
    }

    def __init__(self, C: float = 2.0, epsilon: float = 0.1, length_scale: float = 1.0) -> None:
        self.C = C
        self.epsilon = epsilon
        self.length_scale = length_scale

    def _learn(self, rows: _Rows, y: np.ndarray, groups: np.ndarray | None) -> None:  # noqa: ARG002
        mean, deviation = y.mean(), y.std() or 1.0
        machine = SVR(kernel="precomputed", C=self.C, epsilon=self.epsilon)
        machine.fit(_kernel(rows.distances, self.length_scale), (y - mean) / deviation)
        bias = mean + deviation * machine.intercept_[0]
        self._keep(
            rows.expansion(machine.support_, deviation * machine.dual_coef_[0], bias, self.length_scale)
        )


def _distances(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances over the number of columns (M, N) of inputs (M, d) from rows (N, d), float64."""
    inputs, rows = inputs.astype(np.float64), rows.astype(np.float64)
    squared = (inputs**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * inputs @ rows.T
    return np.maximum(squared, 0) / inputs.shape[1]


def _kernel(distances: np.ndarray, length_scale: float) -> np.ndarray:
    return np.exp(-distances / (2 * length_scale**2))


def _leave_one_out(
    eigenvalues: np.ndarray, vectors: np.ndarray, scores: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Mean squared leave-one-out residual (P,) at each penalty."""
    inverse = 1 / (eigenvalues + penalties[:, None])
    dual = (inverse * (vectors.T @ scores)) @ vectors.T
    return np.mean((dual / (inverse @ (vectors**2).T)) ** 2, axis=1)


def _leave_groups_out(inverse: np.ndarray, dual: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Residuals (N,) of each row, fitted without the rows of its group: C_gg^-1 a_g with C the inverse of K + p I and a = C y.

    The block form of the leave-one-out residual; inputs and scores stay standardised by all rows.
    """
    residuals = dual.copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        residuals[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
    return residuals
