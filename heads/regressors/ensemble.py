"""A head made of others: the weighted mean of their scores, or of the ranks of their scores, the weights from validation rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.regressors.base import (
    EpochListener,
    FitTask,
    Head,
    HeldOut,
    Weights,
    fit_task,
    with_validation,
)
from tier4k.heads.regressors.options import Limits, Range, require_within
from tier4k.heads.regressors.specs import SINGLE

MEMBERS = (
    "ridge",
    "kernel-ridge",
    "svr",
)  # on real data the two layers, which take longest, added nothing to these

COMBINATIONS = ("scores", "ranks")

CURVES = ("reference", "levels", "quantiles")


class EnsembleHead(RegressorMixin, BaseEstimator):
    """Several heads with their default options, averaged.

    The weights are those of least squared error on validation rows among weights that are not negative (stacked regression; Breiman,
    Machine Learning 24, 1996), scaled to the sum 1; equal ones where there are no validation rows. "scores" averages the members'
    scores. "ranks" averages the share of validation rows that a member ranks below the picture, linear in between and beyond, and gives
    the score that the same share of training rows has: what a member's scores look like does not matter then, only their order.

    Once the weights are known, members that need no validation rows to be trained are fitted again on all rows.

    Args:
        members: Names of heads.
        combine: "scores" or "ranks".
        validation_fraction: Share of the rows that `fit` cuts out where no validation rows are given.
        text_width: Columns of X, from the first, that are the text's; only members that part them need it.
        random_state: Seed of the members and of the cut.

    Attributes:
        members_: The fitted members.
        validation_prediction_: (V,) scores of the validation rows by the members that had not seen them.
        weights_: `weights` (M,), each member's tensors under "0.", "1.", …, and of "ranks" `reference` (M, V), the members' scores of the
            validation rows in order, `levels` (V,) and `quantiles` (V,) of the training scores.
    """

    averages_views: ClassVar[bool] = True  # as some of the members do
    limits: ClassVar[Limits] = {
        "members": tuple(SINGLE),
        "combine": COMBINATIONS,
        "validation_fraction": Range(0, 0.9),
        "text_width": Range(1),
    }

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
            validation: Fused vectors and scores that say the weights; None cuts them out of X.
            on_epoch: Called once, with 1 and a function that predicts.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2)
        self.fit_many([self], *fit_task(X, y, validation, on_epoch))
        return self

    @classmethod
    def fit_many(
        cls,
        heads: Sequence["EnsembleHead"],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fit several ensembles on rows of one matrix X (N, d); the members of one name are fitted together."""
        cut, seeds = [], []
        for head, task in zip(heads, tasks, strict=True):
            require_within(head.get_params(), head.limits)
            random = check_random_state(head.random_state)
            cut.append(with_validation(task, head.validation_fraction, random))
            seeds.append(random.randint(2**31 - 1, size=len(head.members)))
            head.members_ = [
                SINGLE[name].make(head._options(name), int(seed))
                for name, seed in zip(head.members, seeds[-1], strict=True)
            ]
        _fit_members(heads, X, [replace(task, on_epoch=None, group=None) for task in cut], watching=True)
        _fit_members(
            heads,
            X,
            [replace(task, on_epoch=None, group=None, validation=None) for task in cut],
            watching=False,
        )
        owns = [head._weigh(X, task) for head, task in zip(heads, cut, strict=True)]
        _fit_members(heads, X, [_all_rows(task) for task in cut], watching=False)
        for number, (head, task, own) in enumerate(zip(heads, cut, owns, strict=True)):
            head._keep(own, X.shape[1])
            if task.on_epoch:
                task.on_epoch(1, head.predict)
            finished(number)

    def _named(self, name: str) -> list[Head]:
        return [member for member, its in zip(self.members_, self.members, strict=True) if its == name]

    def _options(self, name: str) -> dict[str, Any]:
        return {"text_width": self.text_width} if SINGLE[name].parts_text else {}

    def _weigh(self, X: np.ndarray, task: FitTask) -> Weights:
        """The weights and curves of members that have not seen the validation rows."""
        judged = task.validation is not None and len(task.validation) > 0
        rows = task.validation if judged and task.validation is not None else task.train
        predicted, truth = self._members_predict(X[rows]), task.scores[rows]
        own = _curves(predicted, task.scores[task.train]) if self.combine == "ranks" else {}
        wanted = _piecewise(truth, np.sort(truth), own["levels"]) if own else truth
        weights = nnls(self._columns(predicted, own).T, wanted)[0] if judged else np.zeros(len(predicted))
        own["weights"] = weights / weights.sum() if weights.any() else np.full(len(weights), 1 / len(weights))
        if judged:
            self.validation_prediction_ = self._combined(predicted, own)
        return own

    def _keep(self, own: Weights, width: int) -> None:
        tensors = {
            f"{place}.{name}": values
            for place, member in enumerate(self.members_)
            for name, values in member.weights_.items()
        }
        self.weights_ = own | tensors
        self.n_features_in_ = width

    def _members_predict(self, X: np.ndarray) -> np.ndarray:
        return np.stack([member.predict(X) for member in self.members_])

    def _columns(self, scores: np.ndarray, own: Mapping[str, np.ndarray]) -> np.ndarray:
        """What is averaged (M, N) of the members' scores (M, N)."""
        if self.combine == "scores":
            return scores
        return np.stack(
            [
                _piecewise(row, reference, own["levels"])
                for row, reference in zip(scores, own["reference"], strict=True)
            ]
        )

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of fused vectors X (N, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._combined(self._members_predict(X), self.weights_)

    def _combined(self, scores: np.ndarray, own: Mapping[str, np.ndarray]) -> np.ndarray:
        mean = own["weights"] @ self._columns(scores, own)
        return mean if self.combine == "scores" else _piecewise(mean, own["levels"], own["quantiles"])

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """A fitted head from its tensors.

        Raises:
            ValueError: A tensor is missing or does not fit.
        """
        head = cls(**options)
        wanted = ("weights", *(CURVES if head.combine == "ranks" else ()))
        if any(name not in weights for name in wanted) or np.shape(weights["weights"]) != (
            len(head.members),
        ):
            raise ValueError(
                f"not the weights of one ensemble of {', '.join(head.members)}: expected {', '.join(wanted)}"
            )
        head.members_ = [
            SINGLE[name].restore(_below(weights, f"{place}."), head._options(name))
            for place, name in enumerate(head.members)
        ]
        head.weights_ = {name: np.asarray(values) for name, values in weights.items()}
        head.n_features_in_ = head.members_[0].n_features_in_
        return head


def _fit_members(
    heads: Sequence[EnsembleHead], X: np.ndarray, tasks: Sequence[FitTask], watching: bool
) -> None:
    """Fit the members of all ensembles that watch validation rows while they are trained, or those that do not, name by name."""
    for name in dict.fromkeys(name for head in heads for name in head.members):
        if (getattr(SINGLE[name].make(), "validation_fraction", 0) > 0) == watching:
            own = [
                (member, task)
                for head, task in zip(heads, tasks, strict=True)
                for member in head._named(name)
            ]
            SINGLE[name].estimator.fit_many([member for member, _ in own], X, [task for _, task in own])


def _all_rows(task: FitTask) -> FitTask:
    rows = task.train if task.validation is None else np.concatenate([task.train, task.validation])
    return FitTask(task.scores, rows)


def _below(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in weights.items() if name.startswith(prefix)}


def _curves(scores: np.ndarray, training: np.ndarray) -> Weights:
    """From the members' scores (M, V) and those of the training rows to ranks and back."""
    levels = (np.arange(scores.shape[1]) + 0.5) / scores.shape[1]
    return {
        "reference": np.sort(scores, axis=1),
        "levels": levels,
        "quantiles": np.quantile(training, levels),
    }


def _piecewise(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The curve through the points (x, y), rising, linear between them and beyond by the slope of the whole."""
    width, height = (np.ptp(x) or 1.0), (np.ptp(y) or 1.0)
    return np.interp(
        values, [x[0] - 9 * width, *x, x[-1] + 9 * width], [y[0] - 9 * height, *y, y[-1] + 9 * height]
    )
