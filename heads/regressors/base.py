"""The protocol of a head: a scikit-learn regressor whose fitted state consists of named tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from tier4k.heads.regressors.options import Limits

Predictor = Callable[[np.ndarray], np.ndarray]
"""Scores (N,) of fused vectors (N, d)."""

EpochListener = Callable[[int, Predictor], None]
"""Called after each epoch with its number, from 1, and a function that predicts with the current weights."""

Weights = dict[str, np.ndarray]
"""Tensors by name."""

HeldOut = tuple[np.ndarray, np.ndarray]
"""Validation rows: fused vectors (V, d) and their scores (V,)."""


@dataclass(frozen=True)
class History:
    """Losses of a training, one for each epoch; both are empty where a head has no epochs.

    Attributes:
        training_loss: Mean loss of the epoch's steps, in the unit of the head's loss.
        validation_loss: Loss of the validation rows after the epoch; empty without validation rows.
    """

    training_loss: Sequence[float] = ()
    validation_loss: Sequence[float] = ()


@dataclass(frozen=True)
class FitTask:
    """The rows and scores that one head is fitted on, given the shared fused vectors X (N, d).

    Attributes:
        scores: (N,) the target's score of every row of X; only scores of the task's own rows are read.
        train: (n,) numbers of the training rows.
        validation: (v,) numbers of the rows for early stopping; with None the head cuts them out of the
            training rows.
        on_epoch: Called after each epoch of this head with its number, from 1, and a function that predicts
            with the current weights.
        group: (N,) prompt of every row of X, for heads that can predict rows without the rows of their
            prompt.
        start: Weights of a fitted head of the same shape from which training continues; None for random
            initial weights. Only networks use `start`.
    """

    scores: np.ndarray
    train: np.ndarray
    validation: np.ndarray | None = None
    on_epoch: EpochListener | None = None
    group: np.ndarray | None = None
    start: Weights | None = None

    def validation_rows(self, X: np.ndarray) -> HeldOut | None:
        """Return fused vectors and scores of the validation rows; None without validation rows."""
        if self.validation is None:
            return None
        return X[self.validation], self.scores[self.validation]

    def train_groups(self) -> np.ndarray | None:
        """Return the prompts (n,) of the training rows; None where the prompts are unknown."""
        if self.group is None:
            return None
        return self.group[self.train]


class Head(Protocol):
    """Everything that a run needs of a head. `BaseHead` has defaults for what most heads lack."""

    averages_crops: ClassVar[bool]
    """Whether the head is fitted on the mean over an image's crops; else every crop is a separate row."""

    limits: ClassVar[Limits]
    """The valid values of the head's options."""

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
        """Return the scores (N,) of fused vectors X (N, d)."""

    @classmethod
    def fit_many(
        cls,
        heads: Sequence[Any],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = ...,
    ) -> None:
        """Fit several heads of this class on rows of one matrix X (N, d), sharing common work.

        `finished` is called with the number of each head, from 0, when the head is fitted.
        """

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from the tensors of `weights_`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every option by name."""

    @property
    def history(self) -> History:
        """Losses of the last fit; empty where the head has no epochs."""

    @property
    def validation_prediction(self) -> np.ndarray | None:
        """(v,) scores of the validation rows as predicted before the head was fitted on them.

        None where the head is not fitted on its validation rows: `predict` gives these scores then.
        """

    @property
    def held_out_prediction(self) -> np.ndarray | None:
        """(n,) scores of the training rows, each predicted without the rows of its group.

        None where the head has no closed form of these scores, or was fitted without groups.
        """


class BaseHead(RegressorMixin, BaseEstimator):
    """Defaults of the protocol: no epochs, and no predictions of rows that were held out inside `fit`."""

    @property
    def history(self) -> History:
        """No losses, as training is a single step."""
        return History()

    @property
    def validation_prediction(self) -> np.ndarray | None:
        """None: the head is not fitted on its validation rows."""
        return None

    @property
    def held_out_prediction(self) -> np.ndarray | None:
        """None: the head cannot predict training rows without their group."""
        return None


def fit_task(
    X: np.ndarray,
    y: np.ndarray,
    validation: HeldOut | None,
    on_epoch: EpochListener | None,
) -> tuple[np.ndarray, list[FitTask]]:
    """Convert the arguments of `fit` into one matrix and one task, the arguments of `fit_many`."""
    train = np.arange(len(X))
    if validation is None:
        return X, [FitTask(np.asarray(y, np.float64), train, on_epoch=on_epoch)]
    validation_X, validation_y = validation
    rows = np.concatenate([X, validation_X])
    scores = np.concatenate([y, validation_y])
    validation_rows = np.arange(len(validation_X)) + len(X)
    return rows, [FitTask(scores, train, validation_rows, on_epoch)]


def with_validation(
    task: FitTask,
    fraction: float,
    random: np.random.RandomState,
) -> FitTask:
    """Return a task with validation rows: those of the task, or else a random share of its training rows."""
    count = int(fraction * len(task.train))
    if task.validation is not None or not count:
        return task
    order = random.permutation(len(task.train))
    return replace(task, train=task.train[order[count:]], validation=task.train[order[:count]])


def with_same_rows(tasks: Sequence[FitTask]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Group tasks by training rows; yield the rows, and the numbers of the tasks that are fitted on them."""
    numbers_of: dict[bytes, list[int]] = {}
    for number, task in enumerate(tasks):
        numbers_of.setdefault(task.train.tobytes(), []).append(number)
    for numbers in numbers_of.values():
        yield tasks[numbers[0]].train, numbers


def checked_tensors(
    weights: Mapping[str, np.ndarray],
    shapes: Mapping[str, str],
    what: str,
) -> dict[str, np.ndarray]:
    """Check that a fitted head's tensors are finite and that their shapes fit each other; return them.

    Args:
        weights: Tensors by name.
        shapes: Axes of each tensor by name, a letter each, such as "nd". "1" has length one; any other letter
            has the same length in every shape.
        what: Description of the head, for the message.

    Raises:
        ValueError: A tensor is missing, is not finite, or does not fit.
    """
    tensors = {name: np.asarray(weights[name]) for name in shapes if name in weights}
    lengths = {"1": 1}
    for name, axes in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or not _fits(tensor, axes, lengths):
            given_shapes = {key: tensors[key].shape if key in tensors else None for key in shapes}
            raise ValueError(
                f"not the weights of one {what}: expected finite tensors {dict(shapes)}, got {given_shapes}"
            )
    return tensors


def _fits(
    tensor: np.ndarray,
    axes: str,
    lengths: dict[str, int],
) -> bool:
    """Whether a tensor is finite and has these axes; add lengths of new axes to `lengths`."""
    if tensor.ndim != len(axes):
        return False
    for axis, length in zip(axes, tensor.shape, strict=True):
        if lengths.setdefault(axis, length) != length:
            return False
    return bool(np.isfinite(tensor).all())
