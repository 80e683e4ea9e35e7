"""Kernel ridge regression and support vector regression.

Kernel ridge has one kernel of all columns, or one kernel per stream
(`tier4k.heads.regressors.kernel_streams`).
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from sklearn.svm import SVR

from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.kernel_head import (
    SHAPES,
    KernelHead,
    Spectrum,
    TrainingRows,
    gaussian,
    spectrum_of,
)
from tier4k.heads.regressors.kernel_search import KernelSearch
from tier4k.heads.regressors.kernel_streams import (
    KERNELS,
    StreamKernels,
    kernel_names,
    kernel_shapes,
    require_factors,
)
from tier4k.heads.regressors.leave_out import LEAVE_OUT, can_leave_out, solve_groups
from tier4k.heads.regressors.options import Limits, Range
from tier4k.heads.regressors.tasks import Weights
from tier4k.heads.regressors.tensors import checked_tensors
from tier4k.heads.regressors.transforms import WITH_SMEARED

LENGTH_SCALES = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)

PENALTIES = tuple(np.logspace(-4, 2, 25).tolist())


class KernelRidgeHead(KernelHead):
    """Kernel ridge regression, also the mean of a Gaussian process.

    Length-scale and penalty have the least leave-one-out error. With centred scores y and the kernel
    matrix K = U diag(e) U' of the training rows and C = U diag(1 / (e + p)) U', the coefficients at penalty p
    are a = Cy, and the leave-one-out residuals a_i / C_ii (Rasmussen & Williams, Gaussian Processes for
    Machine Learning, 2.2 and 5.4.2): one decomposition for each length-scale serves every penalty and every
    target. Residuals of rows that are predicted without their group g are (C_gg)^-1 a_g. Inputs stay
    standardized, and scores centred, by all rows. On real data the choice by the leave-one-out error ranked
    validation images better than the choice by the marginal likelihood.

    With one kernel per stream, the kernel is that of `tier4k.heads.regressors.kernel_streams`. Its weights
    and length-scales are learnt first (`tier4k.heads.regressors.kernel_search`), by the error of leaving
    prompts out where two prompts or more are known, whatever `leave_out` is; then the penalty is chosen.

    Args:
        length_scales: Length-scales to choose from, in units of the square root of the number of columns.
        penalties: Penalties to choose from; for a Gaussian process, the variance of the noise over
            the variance of the signal.
        leave_out: "row" or "group", what is left out in turn to choose length-scale and penalty: each row, or
            all rows of each prompt. Where fewer than two prompts are known, rows are left out.
        kernels: "joint" for one kernel of all columns, "streams" for one kernel per stream, "streams+product"
            for those and the products of the text's kernel with those of image and image prompt.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (N, d) standardized training rows, `dual` (N,), `bias` (1,),
            and `length_scale` (1,); or for each stream `columns.STREAM` (d,) bool and `length_scale.STREAM`
            (1,), and for each kernel `weight.KERNEL` (1,), where KERNEL is a stream or "text*STREAM".
        length_scale_: The chosen length-scale of the joint kernel.
        stream_kernels_: The learnt kernels of the streams; None with the joint kernel.
        penalty_: The chosen penalty.
        held_out_: (N,) scores of the training rows, each as predicted without the rows of its group; None
            without groups. The choices of kernel and penalty have seen these rows.
        error_: Mean squared leave-one-out error at each length-scale and penalty (L, P), in squared units of
            the scores that the kernel ridge is fitted to; with one kernel per stream (1, P).
    """

    limits: ClassVar[Limits] = {
        **BaseHead.limits,
        "target_transform": WITH_SMEARED,
        "length_scales": Range(0, without_least=True),
        "penalties": Range(0, without_least=True),
        "leave_out": LEAVE_OUT,
        "kernels": KERNELS,
    }
    stream_kernels_: StreamKernels | None = None

    def __init__(
        self,
        length_scales: tuple[float, ...] = LENGTH_SCALES,
        penalties: tuple[float, ...] = PENALTIES,
        leave_out: str = "row",
        kernels: str = "joint",
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
    ) -> None:
        self.length_scales = length_scales
        self.penalties = penalties
        self.leave_out = leave_out
        self.kernels = kernels
        self.interaction = interaction
        self.image_transform = image_transform
        self.target_transform = target_transform

    def _fit_rows(
        self,
        rows: TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,
    ) -> None:
        scores = y - y.mean()
        if self.kernels == "joint":
            kernel, (eigenvalues, vectors) = self._choose_joint(rows, scores, groups)
        else:
            kernel, (eigenvalues, vectors) = self._learn_streams(rows, scores, groups)
        dual = vectors @ ((vectors.T @ scores) / (eigenvalues + self.penalty_))
        if can_leave_out(groups):
            inverse = 1 / (eigenvalues[None] + self.penalty_)
            self.held_out_ = y - _leave_groups_out(inverse, vectors, scores, groups)[0]
        self._smear(y)
        self.weights_ = rows.expansion(np.arange(len(y)), dual, y.mean(), kernel)

    def _choose_joint(
        self,
        rows: TrainingRows,
        scores: np.ndarray,
        groups: np.ndarray | None,
    ) -> tuple[Weights, Spectrum]:
        """Choose length-scale and penalty of the joint kernel; return its tensors and its spectrum."""
        self.stream_kernels_ = None
        spectra = map(rows.joint_spectrum, self.length_scales)
        self.length_scale_ = self.length_scales[self._choose(spectra, scores, groups)]
        return {"length_scale": np.array([self.length_scale_])}, rows.joint_spectrum(self.length_scale_)

    def _learn_streams(
        self,
        rows: TrainingRows,
        scores: np.ndarray,
        groups: np.ndarray | None,
    ) -> tuple[Weights, Spectrum]:
        """Learn the kernels of the streams, then choose a penalty; return tensors and spectrum of the sum."""
        columns = rows.columns(self.kernels)
        require_factors(self.kernels, list(columns))
        names = kernel_names(self.kernels, list(columns))
        distances = rows.group_distances(self.kernels)
        search = KernelSearch.of(names, distances, scores, groups, self.length_scales, self.penalties)
        self.stream_kernels_ = StreamKernels(columns, search.run())
        spectrum = spectrum_of(self.stream_kernels_.kernels.of_distances(distances))
        self._choose([spectrum], scores, groups)
        return self.stream_kernels_.tensors, spectrum

    def _choose(
        self,
        spectra: Iterable[Spectrum],
        scores: np.ndarray,
        groups: np.ndarray | None,
    ) -> int:
        """Choose a kernel and a penalty by the leave-one-out error; return the number of the kernel."""
        left_out = groups if self.leave_out == "group" and can_leave_out(groups) else None
        penalties = np.asarray(self.penalties)[:, None]
        errors = []
        for eigenvalues, vectors in spectra:
            inverse = 1 / (eigenvalues + penalties)
            if left_out is None:
                residuals = _leave_rows_out(inverse, vectors, scores)
            else:
                residuals = _leave_groups_out(inverse, vectors, scores, left_out)
            errors.append(np.mean(residuals**2, axis=1))
        self.error_ = np.array(errors)
        best_kernel, best_penalty = np.unravel_index(np.argmin(self.error_), self.error_.shape)
        self.penalty_ = self.penalties[best_penalty]
        return int(best_kernel)

    def _kernel(self, inputs: np.ndarray) -> np.ndarray:
        if self.stream_kernels_ is None:
            return super()._kernel(inputs)
        return self.stream_kernels_(inputs, self.weights_["rows"])

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        if self.kernels == "joint":
            super()._restore(weights)
            return
        shapes = SHAPES | kernel_shapes(self.kernels, weights)
        self.weights_ = checked_tensors(weights, shapes, "kernel head")
        self.stream_kernels_ = StreamKernels.restore(self.weights_)
        self.n_features_in_ = len(self.weights_["mean"])


class SVRHead(KernelHead):
    """Support vector regression by scikit-learn's `SVR` (Drucker et al., 1997) on standardized scores.

    The defaults ranked validation images best. These images were cut out of the training parts of splits that
    the tables in docs/benchmarks.md do not use.

    Args:
        C: Weight of errors against flatness.
        epsilon: Largest error that costs nothing, in standard deviations of the score.
        length_scale: Length-scale of the kernel, in units of the square root of the number of columns.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.

    Attributes:
        weights_: `mean`, `scale` (d,), `rows` (M, d) support vectors, `dual` (M,), `bias` (1,),
            `length_scale` (1,).
    """

    limits: ClassVar[Limits] = {
        **BaseHead.limits,
        "C": Range(0, without_least=True),
        "epsilon": Range(0),
        "length_scale": Range(0, without_least=True),
    }

    def __init__(
        self,
        C: float = 2.0,
        epsilon: float = 0.1,
        length_scale: float = 1.0,
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.length_scale = length_scale
        self.interaction = interaction
        self.image_transform = image_transform
        self.target_transform = target_transform

    def _fit_rows(
        self,
        rows: TrainingRows,
        y: np.ndarray,
        groups: np.ndarray | None,  # noqa: ARG002
    ) -> None:
        mean = y.mean()
        deviation = y.std() or 1.0
        machine = SVR(kernel="precomputed", C=self.C, epsilon=self.epsilon)
        machine.fit(gaussian(rows.distances, self.length_scale), (y - mean) / deviation)
        dual = deviation * machine.dual_coef_[0]
        bias = mean + deviation * machine.intercept_[0]
        self.weights_ = rows.expansion(
            machine.support_, dual, bias, {"length_scale": np.array([self.length_scale])}
        )


def _leave_rows_out(
    inverse: np.ndarray,
    vectors: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Return the residuals (P, N) of each row by a fit without the row.

    Args:
        inverse: 1 / (e + p) (P, N) at each penalty.
        vectors: Eigenvectors U (N, N) of the kernel matrix.
        scores: Centred scores (N,).
    """
    return _dual(inverse, vectors, scores) / (inverse @ (vectors**2).T)


def _leave_groups_out(
    inverse: np.ndarray,
    vectors: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """Return the residuals (P, N) of each row by a fit without the rows of its group (N,)."""
    return solve_groups(vectors, inverse, _dual(inverse, vectors, scores), groups)


def _dual(
    inverse: np.ndarray,
    vectors: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Return the coefficients (P, N) at each penalty."""
    return (inverse * (vectors.T @ scores)) @ vectors.T
