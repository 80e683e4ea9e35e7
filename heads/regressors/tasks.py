"""Tasks of heads: the rows and scores that one head is fitted on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

Predictor = Callable[[np.ndarray], np.ndarray]
"""Scores (N,) of fused vectors (N, d)."""

Weights = dict[str, np.ndarray]
"""Tensors by name."""

HeldOut = tuple[np.ndarray, np.ndarray]
"""Validation rows: fused vectors (V, d) and their scores (V,)."""


@dataclass(frozen=True)
class WatchedRows:
    """Rows that a head predicts after each epoch of its training.

    Attributes:
        rows: (w,) numbers of the rows.
        on_epoch: Called after each epoch with its number, from 1, and the scores (w,) of the rows by the
            current weights; heads without epochs call it once.
    """

    rows: np.ndarray
    on_epoch: Callable[[int, np.ndarray], None]


@dataclass(frozen=True)
class FitTask:
    """The rows and scores that one head is fitted on, given the shared fused vectors X (N, d).

    Attributes:
        scores: (N,) the target's score of every row of X; only scores of the task's own rows are read.
        train: (n,) numbers of the training rows.
        validation: (v,) numbers of the rows for early stopping; with None the head cuts them out of the
            training rows.
        watched: Rows that the head predicts after each epoch.
        group: (N,) prompt of every row of X, for heads that can predict rows without the rows of their
            prompt.
        start: Weights of a fitted head of the same shape from which training continues; None for random
            initial weights. Only networks use `start`.
        name: Target and repeat of the head, for messages of errors; "" where they are unknown.
    """

    scores: np.ndarray
    train: np.ndarray
    validation: np.ndarray | None = None
    watched: WatchedRows | None = None
    group: np.ndarray | None = None
    start: Weights | None = None
    name: str = ""

    def validation_rows(self, X: np.ndarray) -> HeldOut | None:
        """Return fused vectors and scores of the validation rows; None without validation rows."""
        if self.validation is None:
            return None
        return X[self.validation], self.scores[self.validation]

    def report_only_epoch(self, X: np.ndarray, predict: Predictor) -> None:
        """Predict the watched rows of X after a training without epochs."""
        if self.watched:
            self.watched.on_epoch(1, predict(X[self.watched.rows]))

    def train_groups(self) -> np.ndarray | None:
        """Return the prompts (n,) of the training rows; None where the prompts are unknown."""
        if self.group is None:
            return None
        return self.group[self.train]


def fit_task(
    X: np.ndarray,
    y: np.ndarray,
    validation: HeldOut | None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, FitTask]:
    """Convert the arguments of `fit` into one matrix and a task, the arguments of `fit_many`.

    Each validation row counts as a group of its own.
    """
    train = np.arange(len(X))
    scores = np.asarray(y, np.float64)
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
    if validation is None:
        return X, FitTask(scores, train, group=groups)
    validation_X, validation_y = validation
    validation_rows = np.arange(len(validation_X)) + len(X)
    if groups is not None:
        groups = np.concatenate([groups, validation_rows])
    rows = np.concatenate([X, validation_X])
    return rows, FitTask(np.concatenate([scores, validation_y]), train, validation_rows, group=groups)


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
