"""The protocol: split, fit, select, evaluate, with the metadata floors beside it."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.metrics.bootstrap import TestRows
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.evaluate import CORRELATIONS, METRICS, evaluate, why_nan
from tier4k.heads.regressors.base import FitTask, Head, Predictor, Weights
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import HEADS, fit_heads, make_head

if TYPE_CHECKING:
    from tier4k.heads.encoders.finetuned import TrainedEncoders


SELECTIONS = ("last", "best_validation", "best_test")

ZERO_SHOT = "zero_shot"  # the selection of what is not fitted at all

ELSEWHERE = "elsewhere"  # that of heads that another run fitted

UNFITTED = (ZERO_SHOT, ELSEWHERE)  # nothing was fitted to these rows

MetricValues = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """What fitting on one target of one repeat came to, in whatever way it was fitted.

    Attributes:
        head: The fitted head.
        course: Predictions of the test rows (M,) after each epoch.
        chosen: Predictions of the test rows (M,) at the best validation epoch; None without a validation part.
        seconds: Time that fitting took; heads that were fitted together have equal shares.
        encoders: The encoders that were trained with the head, where they were and are to be kept.
        held_out: Rows besides the test rows that the head was not trained on, as it predicts them: intervals rest on them.
        training_loss, validation_loss: Of each epoch, in the unit of the head's loss; without entries where there are no epochs, or no
            validation rows.
    """

    head: Head
    course: Sequence[np.ndarray]
    chosen: np.ndarray | None
    seconds: float
    encoders: "TrainedEncoders | None" = None
    held_out: TestRows | None = None
    training_loss: Sequence[float] = ()
    validation_loss: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """How a training went, one entry for each epoch.

    Attributes:
        training_loss: Mean loss of the epoch's steps.
        validation_loss: Loss of the validation rows after the epoch; NaN without them.
        test_srcc: SRCC of the test rows after the epoch, which nothing but `best_test` chooses by.
    """

    training_loss: Sequence[float]
    validation_loss: Sequence[float]
    test_srcc: Sequence[float]

    @classmethod
    def of(cls, outcome: Outcome, test_srcc: Sequence[float]) -> "Curve | None":
        """The curve of an outcome; None where it had no epochs."""
        if not outcome.training_loss:
            return None
        return cls(
            outcome.training_loss, outcome.validation_loss or [float("nan")] * len(test_srcc), test_srcc
        )


@dataclass(frozen=True)
class Trial:
    """One head fitted on one target of one repeat.

    Attributes:
        target: Name of the target.
        repeat: Number of the repeat, from 0.
        seed: Its seed.
        head: The fitted head; None of what is not fitted.
        truth: Scores of the test rows (M,).
        predictions: Scores of the test rows (M,) by selection and by floor; `best_test` has none, as it mixes epochs.
        figures: Metrics by selection and by floor.
        reasons: Why figures are NaN, where they are.
        seconds, encoders, held_out: As in the outcome.
        curve: How training went, where it had epochs.
    """

    target: str
    repeat: int
    seed: int
    head: Head | None
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    figures: dict[str, MetricValues]
    reasons: dict[str, str]
    seconds: float
    encoders: "TrainedEncoders | None" = None
    held_out: TestRows | None = None
    curve: Curve | None = None

    @classmethod
    def of(cls, features: FeatureSet, target: str, repeat: int, split: Split, outcome: Outcome) -> "Trial":
        """Judge an outcome by the test rows of its split, beside the metadata floors."""
        predictions = {"last": outcome.course[-1]}
        if outcome.chosen is not None:
            predictions["best_validation"] = outcome.chosen
        trial = cls.judged(features, target, repeat, split, predictions)
        correlations = {
            name: [metric(trial.truth, values) for values in outcome.course]
            for name, metric in CORRELATIONS.items()
        }
        trial.figures["best_test"] = _best_test(trial.truth, outcome.course, correlations)
        if outcome.chosen is None:
            trial.figures["best_validation"] = dict.fromkeys(METRICS, float("nan"))
            trial.reasons["best_validation"] = "no validation part"
        curve = Curve.of(outcome, correlations["srcc"])
        return replace(
            trial,
            head=outcome.head,
            seconds=outcome.seconds,
            encoders=outcome.encoders,
            held_out=outcome.held_out,
            curve=curve,
        )

    @classmethod
    def judged(
        cls,
        features: FeatureSet,
        target: str,
        repeat: int,
        split: Split,
        predictions: Mapping[str, np.ndarray],
    ) -> "Trial":
        """Judge predictions of the test rows (M,) by selection, beside the metadata floors where there are rows to learn these from."""
        scores, seen = features.scores(target), np.concatenate([split.train, split.validation])
        truth, floors = scores[split.test], BASELINES if len(seen) else {}
        both = {
            **predictions,
            **{name: floor(features, scores, seen, split.test) for name, floor in floors.items()},
        }
        figures = {name: evaluate(truth, values) for name, values in both.items()}
        reasons = {name: reason for name, values in both.items() if (reason := why_nan(truth, values))}
        return cls(target, repeat, split.seed, None, truth, both, figures, reasons, seconds=0.0)


def headline(names: Container[str]) -> str:
    """The selection that a run is judged by: best_validation where there was a validation part, else last; what was not fitted is alone."""
    return next(name for name in (*UNFITTED, "best_validation", "last") if name in names)


def run_trials(
    features: FeatureSet,
    fused: np.ndarray,
    targets: Sequence[str],
    splits: Sequence[Split],
    estimator: HeadName,
    head_options: dict[str, Any],
    finished: Callable[[int, int], None] = lambda *_: None,
    starts: Mapping[tuple[str, int], Weights] = MappingProxyType({}),
) -> list[Trial]:
    """Fit and evaluate one head for every target and repeat.

    Args:
        features: The rows.
        fused: Their fused vectors (N, d), or (N, V, d): training sees every view or their mean, a prediction is of all.
        targets: Names of targets.
        splits: One for each repeat.
        estimator: Name of the head.
        head_options: Its options.
        finished: Called with (heads fitted, heads in all).
        starts: By target and repeat the weights that training starts from, where it does not start anew.
    """
    if HEADS[estimator].estimator.averages_views and fused.ndim == 3:
        fused = fused.mean(axis=1)
    jobs = [
        _Job(
            target,
            repeat,
            split,
            features.scores(target),
            make_head(estimator, head_options, split.seed),
            starts.get((target, repeat)),
        )
        for target in targets
        for repeat, split in enumerate(splits)
    ]
    done = count(1)
    start = perf_counter()
    fit_heads(
        estimator,
        [job.head for job in jobs],
        fused.reshape(-1, fused.shape[-1]),
        [job.task(features, fused) for job in jobs],
        lambda _: finished(next(done), len(jobs)),
    )
    seconds = (perf_counter() - start) / len(jobs)
    return [
        Trial.of(features, job.target, job.repeat, job.split, job.outcome(features, fused, seconds))
        for job in jobs
    ]


@dataclass(frozen=True)
class _Job:
    """One head to be fitted, and what it predicted for the test rows at every epoch."""

    target: str
    repeat: int
    split: Split
    scores: np.ndarray
    head: Head
    start: Weights | None
    course: list[np.ndarray] = field(default_factory=list)

    def task(self, features: FeatureSet, fused: np.ndarray) -> FitTask:
        """What the head learns from fused vectors (N, d), or from N V views (N, V, d) as rows of their own."""
        crops, test = fused[0, ..., 0].size, fused[self.split.test]

        def rows(numbers: np.ndarray) -> np.ndarray:
            return (numbers[:, None] * crops + np.arange(crops)).ravel()

        return FitTask(
            np.repeat(self.scores, crops),
            rows(self.split.train),
            rows(self.split.validation) if len(self.split.validation) else None,
            lambda _, predict: self.course.append(mean_over_crops(predict, test)),
            np.repeat(features.group, crops),
            self.start,
        )

    def outcome(self, features: FeatureSet, fused: np.ndarray, seconds: float) -> Outcome:
        """What the fitted head predicted."""
        judged = len(self.split.validation) > 0
        chosen = mean_over_crops(self.head.predict, fused[self.split.test]) if judged else None
        # Heads without epochs have no losses to tell of.
        training, validation = (
            getattr(self.head, name, ()) for name in ("training_loss_", "validation_loss_")
        )
        return Outcome(
            self.head,
            self.course,
            chosen,
            seconds,
            None,
            self._held_out(features, fused),
            training,
            validation,
        )

    def _held_out(self, features: FeatureSet, fused: np.ndarray) -> TestRows | None:
        """The validation rows, or what the head itself knows of its training rows without those of their prompts."""
        rows, predicted = self.split.validation, None
        if len(rows):
            # An ensemble has seen them in the end, and tells what it predicted before.
            known = getattr(self.head, "validation_prediction_", None)
            predicted = mean_over_crops(self.head.predict, fused[rows]) if known is None else known
        elif hasattr(self.head, "held_out_"):
            rows, predicted = self.split.train, self.head.held_out_
        return None if predicted is None else TestRows(features.group[rows], self.scores[rows], predicted)


def mean_over_crops(predict: Predictor, fused: np.ndarray) -> np.ndarray:
    """Predictions (N,) of rows (N, d), or the mean over the views of rows (N, V, d)."""
    predicted = predict(fused.reshape(-1, fused.shape[-1]))
    return predicted.reshape(len(fused), -1).mean(axis=1)


def _best_test(
    truth: np.ndarray, course: Sequence[np.ndarray], correlations: Mapping[str, list[float]]
) -> MetricValues:
    """The published selection: each metric at the test epoch that is best for it. Optimistic, as it looks at the test rows.

    The figures after the logistic are those of the epoch with the best raw PLCC.
    """
    figures = {name: max(values, key=_nan_lowest) for name, values in correlations.items()}
    figures["rmse"] = min(rmse(truth, values) for values in course)
    mapped = evaluate(
        truth, max(zip(correlations["plcc"], course, strict=True), key=lambda pair: _nan_lowest(pair[0]))[1]
    )
    return figures | {name: mapped[name] for name in ("plcc_logistic", "rmse_logistic")}


def _nan_lowest(value: float) -> float:
    return value if np.isfinite(value) else -np.inf
