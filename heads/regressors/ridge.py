"""Ridge regression on fused features: the whole path of penalties from one decomposition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.leave_out import LEAVE_OUT, can_leave_out, solve_groups
from tier4k.heads.regressors.options import Limits, Range
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask, HeldOut, with_same_rows, with_validation
from tier4k.heads.regressors.tensors import checked_tensors
from tier4k.heads.regressors.transforms import WITH_SMEARED

PATH = tuple(np.logspace(-3, 3, 37).tolist())

LEAST_FREEDOM = 1e-12  # smallest 1 - leverage that a residual is divided by


class RidgeHead(BaseHead):
    """A linear head with the L2 penalty of least leave-one-out error, or of least error on validation rows.

    The leave-one-out error is too optimistic where the features depend on the scores of the training rows, as
    features of finetuned encoders do. They need validation rows that the encoders were not trained on.

    With the standardized inputs X (N, d), centred scores y, and the eigenvalues e and eigenvectors of the
    smaller of the two Gram matrices, X'X = V diag(e) V' or XX' = U diag(e) U', the weights at penalty p
    are V diag(1 / (e + p d)) V'X'y, or X'U diag(1 / (e + p d)) U'y (Hastie, Tibshirani & Friedman, The
    Elements of Statistical Learning, 3.4.1 and 18.3.5): one decomposition serves every penalty. The hat
    matrix is H = Z diag(1 / (e + p d)) Z' with Z = XV, or U diag(sqrt e), and the leave-one-out residuals
    are r_i / (1 - h_i), h being its diagonal (Allen, 1974). Residuals of rows that are predicted without
    their group g are (I - H_gg)^-1 r_g (Cook & Weisberg, Residuals and Influence in Regression, 1982, 3.6).
    The inputs stay standardized by all rows.

    Args:
        penalties: Penalties to choose from, all above 0, in units of the number of columns d, so that
            a penalty means the same for any encoder.
        validation_fraction: Share of the rows that `fit` cuts out to choose the penalty where no validation
            rows are given; the weights are not fitted on them. 0 leaves rows out in turn instead.
        leave_out: "row" or "group", what is left out in turn to choose the penalty: each row, or all rows of
            each prompt. Where fewer than two prompts are known, rows are left out.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.
        random_state: Seed of the cut.

    Attributes:
        weights_: `linear.weight` (1, d) and `linear.bias` (1,), float64, which act on raw fused vectors.
        penalty_: The chosen penalty.
        error_: (P,) mean squared error of each penalty by which it was chosen, in squared units of the scores
            that the ridge is fitted to.
        held_out_: (N,) scores of the training rows, each as predicted by the ridge of the chosen penalty
            fitted without the rows of its group; None without groups.
    """

    # Without transforms, the mean of a linear head's predictions over crops is its prediction of their mean.
    # Leaving out one crop alone would keep the other crops of its image.
    averages_crops: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **BaseHead.limits,
        "target_transform": WITH_SMEARED,
        "penalties": Range(0, without_least=True),
        "validation_fraction": Range(0, 0.9),
        "leave_out": LEAVE_OUT,
    }

    def __init__(
        self,
        penalties: tuple[float, ...] = PATH,
        validation_fraction: float = 0.0,
        leave_out: str = "row",
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
        random_state: int | None = None,
    ) -> None:
        self.penalties = penalties
        self.validation_fraction = validation_fraction
        self.leave_out = leave_out
        self.interaction = interaction
        self.image_transform = image_transform
        self.target_transform = target_transform
        self.random_state = random_state

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
        """Fit several heads; heads with the same training rows share one decomposition."""
        validated_tasks = []
        for head, task in zip(heads, tasks, strict=True):
            random = check_random_state(head.random_state)
            validated_tasks.append(with_validation(task, head.validation_fraction, random))
        for train, numbers in with_same_rows(validated_tasks):
            decomposition = _Decomposition.of(X[train].astype(np.float64), streams)
            for number in numbers:
                heads[number]._fit_decomposed(decomposition, X, validated_tasks[number])
                finished(number)

    def _fit_decomposed(
        self,
        rows: "_Decomposition",
        X: np.ndarray,
        task: FitTask,
    ) -> None:
        y = task.scores[task.train]
        mean = rows.scaling.mean
        scale = rows.scaling.scale
        scores = y - y.mean()
        # (P, rank): the fitted scores are projected @ (shrinkage * (projected' @ scores)) at each penalty.
        shrinkage = 1 / (rows.eigenvalues + np.asarray(self.penalties)[:, None] * len(mean))
        weights = rows.weights(shrinkage, scores)
        groups = task.train_groups()
        validation = task.validation_rows(X)
        if validation is not None:
            self.error_ = _validation_error(rows.scaling, weights, y.mean(), validation)
        elif self.leave_out == "group" and can_leave_out(groups):
            residuals = _leave_groups_out(rows.projected, shrinkage, scores, groups)
            self.error_ = np.mean(residuals**2, axis=1)
        else:
            self.error_ = _leave_one_out(rows.projected, shrinkage, scores)
        best = int(np.argmin(self.error_))
        self.penalty_ = self.penalties[best]
        if can_leave_out(groups):
            self.held_out_ = y - _leave_groups_out(rows.projected, shrinkage[[best]], scores, groups)[0]
        self._smear(y)
        weight = weights[best] / scale
        bias = y.mean() - weight @ mean
        self.weights_ = {"linear.weight": weight[None], "linear.bias": np.array([bias])}
        task.report_only_epoch(X, self._predict)

    def _predict(self, X: np.ndarray) -> np.ndarray:
        return X.astype(np.float64) @ self.weights_["linear.weight"][0] + self.weights_["linear.bias"][0]

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        shapes = {"linear.weight": "1d", "linear.bias": "1"}
        self.weights_ = checked_tensors(weights, shapes, "ridge head")
        self.n_features_in_ = self.weights_["linear.weight"].shape[1]


@dataclass(frozen=True)
class _Decomposition:
    """Standardized training rows (N, d) by the eigenvectors of the smaller of their Gram matrices.

    Attributes:
        scaling: The standardization of the rows.
        eigenvalues: Eigenvalues (r,) of the Gram matrix.
        projected: Z (N, r), from which fitted scores are computed.
        weights: A function from shrinkages (P, r) and centred scores (N,) to weights (P, d).
    """

    scaling: Standardization
    eigenvalues: np.ndarray
    projected: np.ndarray
    weights: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @classmethod
    def of(cls, X: np.ndarray, streams: Streams) -> "_Decomposition":
        """Standardize and decompose rows X (N, d)."""
        scaling = Standardization.of(X, np.zeros(len(X)), streams)
        inputs = scaling.inputs(X)
        if len(inputs) < inputs.shape[1]:
            return cls._of_rows(scaling, inputs)
        return cls._of_columns(scaling, inputs)

    @classmethod
    def _of_rows(cls, scaling: Standardization, inputs: np.ndarray) -> "_Decomposition":
        """Decompose XX' (N, N), the smaller matrix where there are fewer rows than columns."""
        eigenvalues, vectors = np.linalg.eigh(inputs @ inputs.T)
        eigenvalues = np.maximum(eigenvalues, 0)

        def weights(shrinkage: np.ndarray, scores: np.ndarray) -> np.ndarray:
            """Weights (P, d) at each shrinkage."""
            dual = (shrinkage * (vectors.T @ scores)) @ vectors.T
            return dual @ inputs

        return cls(scaling, eigenvalues, vectors * np.sqrt(eigenvalues), weights)

    @classmethod
    def _of_columns(cls, scaling: Standardization, inputs: np.ndarray) -> "_Decomposition":
        """Decompose X'X (d, d)."""
        eigenvalues, vectors = np.linalg.eigh(inputs.T @ inputs)
        eigenvalues = np.maximum(eigenvalues, 0)
        projected = inputs @ vectors

        def weights(shrinkage: np.ndarray, scores: np.ndarray) -> np.ndarray:
            """Weights (P, d) at each shrinkage."""
            return (shrinkage * (projected.T @ scores)) @ vectors.T

        return cls(scaling, eigenvalues, projected, weights)


def _validation_error(
    scaling: Standardization,
    weights: np.ndarray,
    score_mean: float,
    validation: HeldOut,
) -> np.ndarray:
    """Return the mean squared error (P,) of weights (P, d) on validation rows."""
    X, y = validation
    predicted = scaling.inputs(X) @ weights.T + score_mean
    return np.mean((predicted - y[:, None]) ** 2, axis=0)


def _leave_one_out(
    projected: np.ndarray,
    shrinkage: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Return the mean squared leave-one-out residual (P,) of Z (N, r) and shrinkages (P, r)."""
    fitted = (shrinkage * (projected.T @ scores)) @ projected.T
    residuals = scores - fitted
    leverage = shrinkage @ (projected**2).T + 1 / len(scores)
    return np.mean((residuals / np.maximum(1 - leverage, LEAST_FREEDOM)) ** 2, axis=1)


def _leave_groups_out(
    projected: np.ndarray,
    shrinkage: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """Return the residuals (P, N) of rows Z (N, r) by fits without their group, at shrinkages (P, r)."""
    residuals = scores - (shrinkage * (projected.T @ scores)) @ projected.T
    return solve_groups(
        projected,
        -shrinkage,
        residuals,
        groups,
        diagonal=1 + LEAST_FREEDOM,
        constant=-1 / len(scores),
    )
