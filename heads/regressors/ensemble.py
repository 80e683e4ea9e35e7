"""A head made of other heads: the weighted mean of their scores, or of the ranks of their scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.utils import check_random_state

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import BaseHead, Head
from tier4k.heads.regressors.curve import Curve
from tier4k.heads.regressors.options import Limits, Range
from tier4k.heads.regressors.single_heads import SINGLE_HEADS
from tier4k.heads.regressors.tasks import FitTask, Weights, with_validation

# On real data, adding the mlp head, which takes longest, did not improve an ensemble of these members.
MEMBERS = ("ridge", "kernel-ridge", "svr")

COMBINATIONS = ("scores", "ranks")

CURVES = ("reference", "levels", "quantiles")

# The ensemble computes interactions and transforms inputs and scores for all members.
MEMBER_OPTIONS = {"interaction": "none", "image_transform": "none", "target_transform": "none"}


class EnsembleHead(BaseHead):
    """Several heads with their default options, averaged; interaction and transforms are the ensemble's.

    The weights minimize the squared error on validation rows, are not negative (stacked regression; Breiman,
    Machine Learning 24, 1996), and are scaled to the sum 1. Without validation rows, all weights are equal.

    "scores" averages the members' scores. "ranks" averages the share of validation rows that a member
    ranks below the image, linear in between and beyond, and returns the score that the same share of
    training rows has. Only the order of a member's scores matters then, not their distribution.

    Afterwards, members that need no validation rows for training are fitted again on all rows.

    Args:
        members: Names of the averaged heads.
        combine: "scores" or "ranks", the values to average.
        validation_fraction: Share of the rows that `fit` cuts out where no validation rows are given.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.
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
        **BaseHead.limits,
        "members": tuple(SINGLE_HEADS),
        "combine": COMBINATIONS,
        "validation_fraction": Range(0, 0.9),
    }
    members_: list[Head]

    def __init__(
        self,
        members: tuple[str, ...] = MEMBERS,
        combine: str = "scores",
        validation_fraction: float = 0.15,
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.members = members
        self.combine = combine
        self.validation_fraction = validation_fraction
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
        device: str,
    ) -> None:
        """Fit several ensembles; members of one name are fitted together."""
        validated_tasks = []
        for head, task in zip(heads, tasks, strict=True):
            validated_tasks.append(head._make_members(task))
        _fit_members(heads, X, list(map(_unwatched, validated_tasks)), streams, device, validated=True)
        _fit_members(heads, X, list(map(_train_rows, validated_tasks)), streams, device, validated=False)
        combinations = []
        for head, task in zip(heads, validated_tasks, strict=True):
            combinations.append(head._fit_combination(X, task))
        _fit_members(heads, X, list(map(_all_rows, validated_tasks)), streams, device, validated=False)
        for number, head in enumerate(heads):
            head._set_weights(combinations[number])
            validated_tasks[number].report_only_epoch(X, head._predict)
            finished(number)

    def _make_members(self, task: FitTask) -> FitTask:
        """Make unfitted members; return the task with validation rows."""
        random = check_random_state(self.random_state)
        validated_task = with_validation(task, self.validation_fraction, random)
        seeds = random.randint(2**31 - 1, size=len(self.members))
        self.members_ = []
        for name, seed in zip(self.members, seeds, strict=True):
            self.members_.append(SINGLE_HEADS[name].make(MEMBER_OPTIONS, int(seed)))
        return validated_task

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
            return combination
        predicted = self._predict_members(X[validation])
        combination = self._curves(predicted, task)
        target = task.scores[validation]
        if self.combine == "ranks":
            target = Curve(np.sort(target), combination["levels"])(target)
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

    def _set_weights(self, combination: Weights) -> None:
        self.weights_ = dict(combination)
        for number, member in enumerate(self.members_):
            for name, values in member.weights_.items():
                self.weights_[f"{number}.{name}"] = values

    def _predict_members(self, X: np.ndarray) -> np.ndarray:
        return np.stack([member.predict(X) for member in self.members_])

    def _columns(self, scores: np.ndarray, combination: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the values (M, N) to average: the members' scores (M, N), or the ranks of these scores."""
        if self.combine == "scores":
            return scores
        ranks = []
        for row, reference in zip(scores, combination["reference"], strict=True):
            ranks.append(Curve(reference, combination["levels"])(row))
        return np.stack(ranks)

    def _predict(self, X: np.ndarray) -> np.ndarray:
        return self._combine(self._predict_members(X), self.weights_)

    def _combine(self, scores: np.ndarray, combination: Mapping[str, np.ndarray]) -> np.ndarray:
        mean = combination["weights"] @ self._columns(scores, combination)
        if self.combine == "scores":
            return mean
        return Curve(combination["levels"], combination["quantiles"])(mean)

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        self._require_combination(weights)
        self.members_ = []
        for number, name in enumerate(self.members):
            member_weights = _with_prefix(weights, f"{number}.")
            self.members_.append(SINGLE_HEADS[name].restore(member_weights, MEMBER_OPTIONS))
        self.weights_ = {name: np.asarray(values) for name, values in weights.items()}
        self.n_features_in_ = self.members_[0].n_features_in_

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
    streams: Streams,
    device: str,
    validated: bool,
) -> None:
    """Fit the members of all ensembles that are trained with validation rows (`validated`), or without.

    Members of one name are fitted together.
    """
    names = dict.fromkeys(name for head in heads for name in head.members)
    for name in names:
        if SINGLE_HEADS[name].trains_with_validation != validated:
            continue
        members: list[Head] = []
        member_tasks: list[FitTask] = []
        for head, task in zip(heads, tasks, strict=True):
            own_members = head._members_named(name)
            members += own_members
            member_tasks += [task] * len(own_members)
        SINGLE_HEADS[name].estimator.fit_many(members, X, member_tasks, streams=streams, device=device)


def _unwatched(task: FitTask) -> FitTask:
    return replace(task, watched=None)


def _train_rows(task: FitTask) -> FitTask:
    return replace(task, watched=None, validation=None)


def _all_rows(task: FitTask) -> FitTask:
    train_task = _train_rows(task)
    if task.validation is None:
        return train_task
    return replace(train_task, train=np.concatenate([task.train, task.validation]))


def _equal_weights(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _with_prefix(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors whose names start with a prefix, under their names without the prefix."""
    tensors = {}
    for name, values in weights.items():
        if name.startswith(prefix):
            tensors[name.removeprefix(prefix)] = values
    return tensors
