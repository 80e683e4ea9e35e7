"""A head made of other heads: the weighted mean of their scores, or of the ranks of their scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.regressors.base import (
    BaseHead,
    EpochListener,
    FitTask,
    Head,
    HeldOut,
    Weights,
    fit_task,
    with_validation,
)
from tier4k.heads.regressors.options import Limits, Range, require_within
from tier4k.heads.regressors.single_heads import SINGLE_HEADS

# On real data, adding the mlp head, which takes longest, did not improve an ensemble of these members.
MEMBERS = ("ridge", "kernel-ridge", "svr")

COMBINATIONS = ("scores", "ranks")

CURVES = ("reference", "levels", "quantiles")

BEYOND = 9  # curves continue beyond their ends by this multiple of their width


class EnsembleHead(BaseHead):
    """Several heads with their default options, averaged.

    The weights minimize the squared error on validation rows, and are not negative
    (stacked regression; Breiman, Machine Learning 24, 1996), scaled to the sum 1. Without validation
    rows, all weights are equal.

    "scores" averages the members' scores. "ranks" averages the share of validation rows that a member
    ranks below the image, linear in between and beyond, and returns the score that the same share of
    training rows has. Only the order of a member's scores matters then, not their distribution.

    Afterwards, members that need no validation rows for training are fitted again on
    all rows.

    Args:
        members: Names of the averaged heads.
        combine: "scores" or "ranks", the values to average.
        validation_fraction: Share of the rows that `fit` cuts out where no validation rows are given.
        text_width: Number of text columns of X, which come first; only members that treat text and image
            differently need it.
        random_state: Seed of the members and of the cut.

    Attributes:
        members_: The fitted members.
        validation_prediction_: (V,) scores of the validation rows by members that were not fitted on
            these rows; None without validation rows.
        weights_: `weights` (M,) and each member's tensors under "0.", "1.", …; for "ranks" also
            `reference` (M, V), the members' sorted scores of the validation rows, and `levels` (V,) and
            `quantiles` (V,) of the training scores.
    """

    averages_crops: ClassVar[bool] = True  # as some members do
    limits: ClassVar[Limits] = {
        "members": tuple(SINGLE_HEADS),
        "combine": COMBINATIONS,
        "validation_fraction": Range(0, 0.9),
        "text_width": Range(1),
    }
    members_: list[Head]
    validation_prediction_: np.ndarray | None
    weights_: Weights
    n_features_in_: int

    def __init__(
        self,
        members: tuple[str, ...] = MEMBERS,
        combine: str = "scores",
        validation_fraction: float = 0.15,
        text_width: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.members = members
        self.combine = combine
        self.validation_fraction = validation_fraction
        self.text_width = text_width
        self.random_state = random_state

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,
        on_epoch: EpochListener | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,).

        Args:
            X: Fused vectors.
            y: Mean opinion scores.
            validation: Fused vectors and scores that the weights are fitted to; None cuts rows out of X.
            on_epoch: Called once, with 1 and a function that predicts.

        Raises:
            HeadError: An option is out of its limits.
        """
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            y_numeric=True,
            ensure_min_samples=2,
        )
        rows, tasks = fit_task(X, y, validation, on_epoch)
        self.fit_many([self], rows, tasks)
        return self

    @classmethod
    def fit_many(
        cls,
        heads: Sequence["EnsembleHead"],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fit several ensembles on rows of one matrix X (N, d); members of one name are fitted together."""
        validated_tasks = []
        for head, task in zip(heads, tasks, strict=True):
            validated_tasks.append(head._make_members(task))
        _fit_members(heads, X, list(map(_without_listener, validated_tasks)), watching=True)
        _fit_members(heads, X, list(map(_train_rows, validated_tasks)), watching=False)
        combinations = []
        for head, task in zip(heads, validated_tasks, strict=True):
            combinations.append(head._fit_combination(X, task))
        _fit_members(heads, X, list(map(_all_rows, validated_tasks)), watching=False)
        for number, head in enumerate(heads):
            head._set_weights(combinations[number], X.shape[1])
            on_epoch = validated_tasks[number].on_epoch
            if on_epoch:
                on_epoch(1, head.predict)
            finished(number)

    @property
    def validation_prediction(self) -> np.ndarray | None:
        """(v,) scores of the validation rows by members that were not fitted on them."""
        return self.validation_prediction_

    def _make_members(self, task: FitTask) -> FitTask:
        """Make unfitted members; return the task with validation rows."""
        require_within(self.get_params(), self.limits)
        random = check_random_state(self.random_state)
        validated_task = with_validation(task, self.validation_fraction, random)
        seeds = random.randint(2**31 - 1, size=len(self.members))
        self.members_ = []
        for name, seed in zip(self.members, seeds, strict=True):
            self.members_.append(SINGLE_HEADS[name].make(self._member_options(name), int(seed)))
        return validated_task

    def _member_options(self, name: str) -> dict[str, Any]:
        if SINGLE_HEADS[name].needs_text_width:
            return {"text_width": self.text_width}
        return {}

    def _members_named(self, name: str) -> list[Head]:
        members = []
        for member_name, member in zip(self.members, self.members_, strict=True):
            if member_name == name:
                members.append(member)
        return members

    def _fit_combination(self, X: np.ndarray, task: FitTask) -> Weights:
        """Fit weights and curves to members that are not fitted on the validation rows yet."""
        validation = task.validation
        if validation is None or not len(validation):
            predicted = self._predict_members(X[task.train])
            combination = self._curves(predicted, task)
            combination["weights"] = _equal_weights(len(predicted))
            self.validation_prediction_ = None
            return combination
        predicted = self._predict_members(X[validation])
        combination = self._curves(predicted, task)
        target = task.scores[validation]
        if self.combine == "ranks":
            target = _piecewise(target, np.sort(target), combination["levels"])
        weights = nnls(self._columns(predicted, combination).T, target)[0]
        combination["weights"] = weights / weights.sum() if weights.any() else _equal_weights(len(weights))
        self.validation_prediction_ = self._combine(predicted, combination)
        return combination

    def _curves(self, predicted: np.ndarray, task: FitTask) -> Weights:
        """Return the curves from members' scores (M, V) to ranks and training scores; none for "scores"."""
        if self.combine == "scores":
            return {}
        count = predicted.shape[1]
        levels = (np.arange(count) + 0.5) / count
        return {
            "reference": np.sort(predicted, axis=1),
            "levels": levels,
            "quantiles": np.quantile(task.scores[task.train], levels),
        }

    def _set_weights(self, combination: Weights, width: int) -> None:
        self.weights_ = dict(combination)
        for number, member in enumerate(self.members_):
            for name, values in member.weights_.items():
                self.weights_[f"{number}.{name}"] = values
        self.n_features_in_ = width

    def _predict_members(self, X: np.ndarray) -> np.ndarray:
        return np.stack([member.predict(X) for member in self.members_])

    def _columns(self, scores: np.ndarray, combination: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the values (M, N) to average: the members' scores (M, N), or the ranks of these scores."""
        if self.combine == "scores":
            return scores
        ranks = []
        for row, reference in zip(scores, combination["reference"], strict=True):
            ranks.append(_piecewise(row, reference, combination["levels"]))
        return np.stack(ranks)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return scores (N,) float64 of fused vectors X (N, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._combine(self._predict_members(X), self.weights_)

    def _combine(self, scores: np.ndarray, combination: Mapping[str, np.ndarray]) -> np.ndarray:
        mean = combination["weights"] @ self._columns(scores, combination)
        if self.combine == "scores":
            return mean
        return _piecewise(mean, combination["levels"], combination["quantiles"])

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from its tensors.

        Raises:
            ValueError: A tensor is missing or does not fit.
        """
        head = cls(**options)
        head._require_combination(weights)
        head.members_ = []
        for number, name in enumerate(head.members):
            member_weights = _with_prefix(weights, f"{number}.")
            head.members_.append(SINGLE_HEADS[name].restore(member_weights, head._member_options(name)))
        head.weights_ = {name: np.asarray(values) for name, values in weights.items()}
        head.n_features_in_ = head.members_[0].n_features_in_
        head.validation_prediction_ = None
        return head

    def _require_combination(self, weights: Mapping[str, np.ndarray]) -> None:
        expected = ("weights", *(CURVES if self.combine == "ranks" else ()))
        complete = set(expected) <= set(weights)
        if complete and np.shape(weights["weights"]) == (len(self.members),):
            return
        raise ValueError(
            f"not the weights of one ensemble of {', '.join(self.members)}: expected {', '.join(expected)}"
        )


def _fit_members(
    heads: Sequence[EnsembleHead],
    X: np.ndarray,
    tasks: Sequence[FitTask],
    watching: bool,
) -> None:
    """Fit the members of all ensembles that are trained with validation rows, or without (`watching` false).

    Members of one name are fitted together.
    """
    names = dict.fromkeys(name for head in heads for name in head.members)
    for name in names:
        if SINGLE_HEADS[name].watches_validation != watching:
            continue
        members: list[Head] = []
        member_tasks: list[FitTask] = []
        for head, task in zip(heads, tasks, strict=True):
            own_members = head._members_named(name)
            members += own_members
            member_tasks += [task] * len(own_members)
        SINGLE_HEADS[name].estimator.fit_many(members, X, member_tasks)


def _without_listener(task: FitTask) -> FitTask:
    return replace(task, on_epoch=None, group=None)


def _train_rows(task: FitTask) -> FitTask:
    return FitTask(task.scores, task.train)


def _all_rows(task: FitTask) -> FitTask:
    if task.validation is None:
        return FitTask(task.scores, task.train)
    return FitTask(task.scores, np.concatenate([task.train, task.validation]))


def _equal_weights(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _with_prefix(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors whose names start with a prefix, under their names without the prefix."""
    tensors = {}
    for name, values in weights.items():
        if name.startswith(prefix):
            tensors[name.removeprefix(prefix)] = values
    return tensors


def _piecewise(
    values: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """Evaluate a rising curve through the points (x, y), extended with the mean gradient of the curve."""
    width = np.ptp(x) or 1.0
    height = np.ptp(y) or 1.0
    long_x = [x[0] - BEYOND * width, *x, x[-1] + BEYOND * width]
    long_y = [y[0] - BEYOND * height, *y, y[-1] + BEYOND * height]
    return np.interp(values, long_x, long_y)
