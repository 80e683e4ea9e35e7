"""What the protocol asks of a head: a scikit-learn regressor whose fitted state is a few named tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from tier4k.heads.regressors.options import Limits

Predictor = Callable[[np.ndarray], np.ndarray]

EpochListener = Callable[[int, Predictor], None]

Weights = dict[str, np.ndarray]

HeldOut = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FitTask:
    """What one head learns from the shared fused vectors X (N, d).

    Attributes:
        scores: (N,) the target's score of every row of X; only those of its own rows are looked at.
        train: (n,) numbers of its training rows.
        validation: (v,) numbers of the rows that early stopping watches; None leaves their choice to the head.
        on_epoch: Called after each epoch of this head with its number, from 1, and a function that predicts with the current weights.
        group: (N,) prompt of every row of X, for heads that tell what they would predict without a prompt's rows.
        start: Weights of a fitted head of the same shape, from which training goes on; None starts anew. Only networks know it.
    """

    scores: np.ndarray
    train: np.ndarray
    validation: np.ndarray | None = None
    on_epoch: EpochListener | None = None
    group: np.ndarray | None = None
    start: Weights | None = None

    def held(self, X: np.ndarray) -> HeldOut | None:
        """Fused vectors and scores of the validation rows, if there are any."""
        return None if self.validation is None else (X[self.validation], self.scores[self.validation])

    def groups(self) -> np.ndarray | None:
        """Prompts (n,) of the training rows, where they are known."""
        return None if self.group is None else self.group[self.train]


class Head(Protocol):
    """A head that can take part in runs; `fit` is told of validation rows and tells of every epoch."""

    averages_views: ClassVar[bool]
    """Whether it learns from the mean of a picture's views; else from every view as a row of its own."""
    limits: ClassVar[Limits]
    """The values that its options take."""
    weights_: Weights
    n_features_in_: int

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,
        on_epoch: EpochListener | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) of fused vectors X (N, d)."""

    @classmethod
    def fit_many(
        cls,
        heads: Sequence[Any],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = ...,
    ) -> None:
        """Fit several heads of this class on rows of one matrix X (N, d), sharing what they have in common.

        `finished` is called with the number of each head, from 0, when it is fitted.
        """

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """A fitted head from the tensors of `weights_`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every option."""


def fit_task(
    X: np.ndarray, y: np.ndarray, validation: HeldOut | None, on_epoch: EpochListener | None
) -> tuple[np.ndarray, list[FitTask]]:
    """What `fit` is given, as one matrix X and the only task on it."""
    rows = np.arange(len(X))
    if validation is None:
        return X, [FitTask(np.asarray(y, np.float64), rows, on_epoch=on_epoch)]
    scores, held = np.concatenate([y, validation[1]]), np.arange(len(validation[0])) + len(X)
    return np.concatenate([X, validation[0]]), [FitTask(scores, rows, held, on_epoch)]


def with_validation(task: FitTask, fraction: float, random: np.random.RandomState) -> FitTask:
    """The task with validation rows, taken out of its training rows where it has none of its own."""
    count = int(fraction * len(task.train))
    if task.validation is not None or not count:
        return task
    order = random.permutation(len(task.train))
    return replace(task, train=task.train[order[count:]], validation=task.train[order[:count]])


def with_same_rows(tasks: Sequence[FitTask]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Training rows, each with the numbers of the tasks that learn from them."""
    numbers: dict[bytes, list[int]] = {}
    for number, task in enumerate(tasks):
        numbers.setdefault(task.train.tobytes(), []).append(number)
    yield from ((tasks[same[0]].train, same) for same in numbers.values())


def checked_tensors(
    weights: Mapping[str, np.ndarray], shapes: Mapping[str, str], what: str
) -> dict[str, np.ndarray]:
    """The tensors of a fitted head, finite and of shapes that fit each other.

    Args:
        weights: Tensors by name.
        shapes: For each name its axes, a letter each, such as "nd"; "1" has length one, any other letter one length wherever it stands.
        what: What they belong to, for the message.

    Raises:
        ValueError: A tensor is missing, is not finite, or does not fit.
    """
    lengths: dict[str, int] = {"1": 1}
    found = {name: np.asarray(weights[name]).shape if name in weights else None for name in shapes}
    for name, axes in shapes.items():
        shape = found[name]
        fits = (
            shape is not None
            and len(shape) == len(axes)
            and all(lengths.setdefault(a, n) == n for a, n in zip(axes, shape, strict=True))
        )
        if not fits or not np.isfinite(weights[name]).all():
            raise ValueError(
                f"not the weights of one {what}: expected finite tensors {dict(shapes)}, found {found}"
            )
    return {name: np.asarray(weights[name]) for name in shapes}
