"""A regressor of scikit-learn's conventions as a head of tier4k."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone

from tier4k.cache.errors import TierError
from tier4k.extract.plugins.find import FOREIGN_ERRORS, installed_plugins, place_of
from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.names import GROUP
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.tasks import FitTask
from tier4k.heads.regressors.tensors import checked_tensors

COLUMNS = "estimator.columns"  # name of the tensor (1,): number of columns that the estimator reads


class EstimatorHead(BaseHead):
    """A head whose model is any scikit-learn regressor. Its inputs are not standardized.

    The estimator is fitted to the training rows (n, d) of the fused vectors as they are stored, and to their
    scores (n,). Validation rows are not used. Where an image has crops, its row is their mean.

    Args:
        name: Name of the head, for messages.
        estimator: The unfitted estimator. `from_weights` needs the fitted estimator, which tensors cannot
            represent.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.

    Attributes:
        estimator_: The fitted estimator.
        weights_: `estimator.columns` (1,), and the tensors of interaction and transforms.
    """

    averages_crops: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        estimator: Any,
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
    ) -> None:
        self.name = name
        self.estimator = estimator
        self.interaction = interaction
        self.image_transform = image_transform
        self.target_transform = target_transform

    @classmethod
    def _fit_many(
        cls,
        heads: Sequence[Self],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None],
        streams: Streams,  # noqa: ARG003
        device: str,  # noqa: ARG003
    ) -> None:
        for number, (head, task) in enumerate(zip(heads, tasks, strict=True)):
            head._fit_rows(X, task)
            finished(number)

    def _fit_rows(self, X: np.ndarray, task: FitTask) -> None:
        place = f" for {task.name}" if task.name else ""
        with foreign_errors(self.name, f"be fitted{place}"):
            self.estimator_ = clone(self.estimator)
            self.estimator_.fit(X[task.train], task.scores[task.train])
        self.weights_ = {COLUMNS: np.array([X.shape[1]])}
        task.report_only_epoch(X, lambda rows: self._scores(rows, f"predict{place}"))

    def _predict(self, X: np.ndarray) -> np.ndarray:
        return self._scores(X, "predict")

    def _scores(self, X: np.ndarray, action: str) -> np.ndarray:
        with foreign_errors(self.name, action):
            scores = np.asarray(self.estimator_.predict(X), np.float64)
            if scores.size != len(X):
                raise ValueError(
                    f"predict returned values of shape {scores.shape} for {len(X)} rows, and must return a "
                    "score for each row"
                )
            if bad := int((~np.isfinite(scores)).sum()):
                raise ValueError(f"{bad} of its {len(X)} scores are NaN or infinite")
        return scores.reshape(-1)

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights_ = checked_tensors(weights, {COLUMNS: "1"}, "head with an estimator")
        self.n_features_in_ = int(self.weights_[COLUMNS][0])
        self.estimator_ = self.estimator


@contextmanager
def foreign_errors(name: str, action: str) -> Iterator[None]:
    """Convert every error of the block into a `HeadError`, as the code of a user's head may raise anything.

    Args:
        name: Name of the head.
        action: What the head cannot do after an error, such as "be fitted".
    """
    try:
        yield
    except TierError:
        raise
    except FOREIGN_ERRORS as error:
        text = " ".join(f"{type(error).__name__}: {error}".split()) + place_of(error, _module_of(name))
        raise HeadError(
            f"the {name} head cannot {action}: {text}. The error is raised "
            "by the head, which is not part of tier4k: correct the head or its options (--set)"
        ) from error


def _module_of(name: str) -> str:
    """Return the module of a user's head."""
    point = installed_plugins(GROUP).get(name)
    return point.module if point else name.partition(":")[0]
