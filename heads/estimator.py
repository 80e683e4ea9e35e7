"""What the protocol asks of a head: a scikit-learn regressor whose fitted state is a few named tensors."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np

Predictor = Callable[[np.ndarray], np.ndarray]
EpochListener = Callable[[int, Predictor], None]
Weights = dict[str, np.ndarray]


class Head(Protocol):
    """A head that can take part in runs; `fit` is told of validation rows and tells of every epoch."""

    averages_views: ClassVar[bool]
    """Whether it learns from the mean of a picture's views; else from every view as a row of its own."""
    weights_: Weights

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        on_epoch: EpochListener | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) of fused vectors X (N, d)."""

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """A fitted head from the tensors of `weights_`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every option."""
