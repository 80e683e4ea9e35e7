"""One trial of the protocol: fit a head, select an epoch, and evaluate the test predictions."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.metrics.all_metrics import CORRELATIONS, METRICS, evaluate, evaluate_rows, nan_reasons
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.levels import level_metrics, level_nan_reasons
from tier4k.heads.metrics.raters import RATERS, ceiling_nan_reasons, raters_ceiling
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.tasks import Predictor

SELECTIONS = ("last", "best_validation", "best_test")

ZERO_SHOT = "zero_shot"  # the selection of scorers, which are not fitted

ELSEWHERE = "elsewhere"  # the selection of heads that another run fitted

CALIBRATED = "calibrated"  # the predictions of `ELSEWHERE`, mapped to the scale of the scores

UNFITTED = (ZERO_SHOT, ELSEWHERE, CALIBRATED)  # selections of runs that fit nothing

UNIT_METRICS = ("rmse", "rmse_logistic")  # in the unit of the scores, which repeats on other scales lack

NAN = float("nan")

MetricValues = dict[str, float]


class WritableEncoders(Protocol):
    """The encoders that were trained with a head."""

    def write(self, folder: Path) -> None:
        """Write the encoders into a new folder."""


@dataclass(frozen=True)
class Outcome:
    """Result of fitting one head on one target and repeat.

    Attributes:
        head: The fitted head.
        history: Predictions of the test rows (M,) after each epoch.
        best_validation: Predictions of the test rows (M,) at the best validation epoch; None without a
            validation part.
        seconds: Time of the fit; heads that were fitted together have equal shares.
        encoders: The encoders that were trained with the head, if they are kept.
        held_out: Rows outside the test part that the head was not trained on, with its predictions; for
            intervals.
        training_loss, validation_loss: Loss of each epoch, in the unit of the loss of the head; empty without
            epochs or validation rows.
    """

    head: Head
    history: Sequence[np.ndarray]
    best_validation: np.ndarray | None
    seconds: float
    encoders: WritableEncoders | None = None
    held_out: TestRows | None = None
    training_loss: Sequence[float] = ()
    validation_loss: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """The history of a training, one entry for each epoch.

    Attributes:
        training_loss: Mean loss of the epoch's steps.
        validation_loss: Loss of the validation rows after the epoch; NaN without validation rows.
        test_srcc: SRCC of the test rows after the epoch. Only the selection `best_test` uses it.
    """

    training_loss: Sequence[float]
    validation_loss: Sequence[float]
    test_srcc: Sequence[float]

    @classmethod
    def of(cls, outcome: Outcome, test_srcc: Sequence[float]) -> "Curve | None":
        """Return the curve of an outcome, or None if there were no epochs."""
        if not outcome.training_loss:
            return None
        validation_loss = outcome.validation_loss or [NAN] * len(test_srcc)
        return cls(outcome.training_loss, validation_loss, test_srcc)


@dataclass(frozen=True)
class Choice:
    """What a search chose for one target and repeat. The test rows of the repeat had no part in it.

    Attributes:
        options: The chosen options, such as "head=svr, C=2".
        srcc: SRCC of the chosen candidate on the selection part, by which it was chosen; may be NaN.
    """

    options: str
    srcc: float


@dataclass(frozen=True)
class Trial:
    """One head fitted on one target of one repeat, with its metrics.

    Attributes:
        target: Name of the target.
        repeat: Number of the repeat, from 0.
        seed: Seed of the head.
        test: Indices of the test rows (M,), which have a score for the target.
        head: The fitted head; None if nothing was fitted.
        truth: Scores of the test rows (M,), those of several data sets on one scale (see `scored_rows`).
        predictions: Predictions of the test rows (M,) by selection and by baseline; `best_test` has no
            predictions, because it mixes epochs.
        metrics: Metrics by selection and by baseline, and the raters' ceiling where ratings are known.
        reasons: Reasons for NaN metrics, by selection, by baseline and for the ceiling.
        seconds, encoders, held_out: See `Outcome`.
        curve: The history of the training; None without epochs.
        choice: What a search chose for this trial; None where nothing was searched.
        scale: As in `ScoredRows`, of the scores that the head was fitted to.
    """

    target: str
    repeat: int
    seed: int
    test: np.ndarray
    head: Head | None
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    metrics: dict[str, MetricValues]
    reasons: dict[str, str]
    seconds: float
    encoders: WritableEncoders | None = None
    held_out: TestRows | None = None
    curve: Curve | None = None
    choice: Choice | None = None
    scale: str = ""

    @classmethod
    def of(
        cls,
        features: FeatureSet,
        target: str,
        repeat: int,
        split: Split,
        outcome: Outcome,
    ) -> "Trial":
        """Evaluate an outcome on the test rows of its split, beside the metadata baselines.

        Args:
            features: All rows with their scores.
            target: Name of the target.
            repeat: Number of the repeat.
            split: The parts of the rows. Only rows with a score for the target take part.
            outcome: Predictions of the test rows that take part.

        Raises:
            SplitError: Too few rows of the split have a score for the target.
        """
        predictions = {"last": outcome.history[-1]}
        if outcome.best_validation is not None:
            predictions["best_validation"] = outcome.best_validation
        trial = cls.evaluated(features, target, repeat, split, predictions)
        by_epoch = _correlations_by_epoch(trial.truth, outcome.history)
        best_prediction = outcome.history[_best_epoch(by_epoch["srcc"])]
        rows = _test_rows(features, trial.test, trial.truth, best_prediction)
        trial.metrics["best_test"] = _best_test(rows, outcome.history, by_epoch)
        if reason := "; ".join(level_nan_reasons(rows)):
            trial.reasons["best_test"] = reason
        if outcome.best_validation is None:
            trial.metrics["best_validation"] = dict.fromkeys(METRICS, NAN)
            trial.reasons["best_validation"] = "no validation part"
        aligned = scored_rows(features, target, split)
        if aligned.reason:
            trial = trial.without_rmse("best_test", aligned.reason, UNIT_METRICS)
        return replace(
            trial,
            head=outcome.head,
            seconds=outcome.seconds,
            encoders=outcome.encoders,
            held_out=None if aligned.reason else outcome.held_out,  # an interval is checked on the test rows
            scale=aligned.scale,
            curve=Curve.of(outcome, by_epoch["srcc"]),
        )

    @classmethod
    def evaluated(
        cls,
        features: FeatureSet,
        target: str,
        repeat: int,
        split: Split,
        predictions: Mapping[str, np.ndarray],
    ) -> "Trial":
        """Evaluate predictions of the test rows (M,) by selection, beside the metadata baselines.

        Only rows with a score for the target take part, also as test rows. Baselines are fitted on training
        and validation rows; without such rows there are no baselines.

        Raises:
            SplitError: Too few rows of the split have a score for the target.
        """
        aligned = scored_rows(features, target, split)
        split = aligned.split
        truth = aligned.scores[split.test]
        fitted_rows = np.concatenate([split.train, split.validation])
        all_predictions = dict(predictions)
        if len(fitted_rows):
            for name, baseline in BASELINES.items():
                all_predictions[name] = baseline(features, aligned.scores, fitted_rows, split.test)
        metrics, reasons = _evaluate_each(features, split.test, truth, all_predictions)
        if np.isfinite(aligned.errors).any():
            metrics[RATERS] = raters_ceiling(truth, aligned.errors[split.test])
            reasons[RATERS] = ceiling_nan_reasons(metrics[RATERS])
        trial = cls(
            target=target,
            repeat=repeat,
            seed=split.seed,
            test=split.test,
            head=None,
            truth=truth,
            predictions=all_predictions,
            metrics=metrics,
            reasons=reasons,
            seconds=0.0,
        )
        if aligned.reason:
            for name in all_predictions:
                trial = trial.without_rmse(name, aligned.reason, UNIT_METRICS)
        return trial

    def test_rows(self, features: FeatureSet, name: str) -> TestRows:
        """Return the test rows with the predictions of a selection or baseline."""
        return _test_rows(features, self.test, self.truth, self.predictions[name])

    def without_rmse(
        self,
        selection: str,
        reason: str,
        metrics: Sequence[str] = ("rmse",),
    ) -> "Trial":
        """Return the trial without an RMSE for one selection; the reason is added to existing reasons.

        Args:
            selection: Name of the selection or baseline.
            reason: Why there is none.
            metrics: The metrics that become NaN.
        """
        reasons = [self.reasons[selection], reason] if selection in self.reasons else [reason]
        values = self.metrics[selection] | dict.fromkeys(metrics, NAN)
        return replace(
            self,
            metrics=self.metrics | {selection: values},
            reasons=self.reasons | {selection: "; ".join(reasons)},
        )


def by_target(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by their targets; trials of one target keep their order."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.target, []).append(trial)
    return groups


def headline(names: Container[str]) -> str:
    """Return the selection that is the result of a run: best_validation with a validation part, else last.

    Runs without a fit have only one selection.
    """
    return next(name for name in (*UNFITTED, "best_validation", "last") if name in names)


def mean_over_crops(predict: Predictor, fused: np.ndarray) -> np.ndarray:
    """Return predictions (N,) for rows (N, d), or their mean over the crops for rows (N, V, d)."""
    predicted = predict(fused.reshape(-1, fused.shape[-1]))
    return predicted.reshape(len(fused), -1).mean(axis=1)


def _test_rows(
    features: FeatureSet,
    test: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
) -> TestRows:
    return TestRows(features.group[test], features.generator[test], truth, prediction)


def _evaluate_each(
    features: FeatureSet,
    test: np.ndarray,
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
) -> tuple[dict[str, MetricValues], dict[str, str]]:
    """Return metrics, and reasons for NaN metrics, of each selection and baseline."""
    metrics, reasons = {}, {}
    for name, values in predictions.items():
        rows = _test_rows(features, test, truth, values)
        metrics[name] = evaluate_rows(rows)
        if reason := nan_reasons(rows):
            reasons[name] = reason
    return metrics, reasons


def _correlations_by_epoch(truth: np.ndarray, history: Sequence[np.ndarray]) -> dict[str, list[float]]:
    correlations: dict[str, list[float]] = {}
    for name, metric in CORRELATIONS.items():
        correlations[name] = [metric(truth, predicted) for predicted in history]
    return correlations


def _best_test(
    rows: TestRows,
    history: Sequence[np.ndarray],
    by_epoch: Mapping[str, list[float]],
) -> MetricValues:
    """Return the metrics of the published selection: each metric at the epoch with its best test value.

    The selection is optimistic, because it uses the test rows. The metrics after the logistic are those of
    the epoch with the best raw PLCC, those of generators and within prompts those of the epoch with the best
    SRCC.

    Args:
        rows: The test rows with the predictions of the epoch with the best SRCC.
        history: Predictions of the test rows (M,) after each epoch.
        by_epoch: Each correlation after each epoch.
    """
    metrics = {}
    for name, values in by_epoch.items():
        metrics[name] = max(values, key=_nan_lowest)
    metrics["rmse"] = min(rmse(rows.truth, predicted) for predicted in history)
    mapped = evaluate(rows.truth, history[_best_epoch(by_epoch["plcc"])])
    for name in ("plcc_logistic", "rmse_logistic"):
        metrics[name] = mapped[name]
    return metrics | level_metrics(rows)


def _best_epoch(values: Sequence[float]) -> int:
    """Return the number, from 0, of the first epoch with the largest value."""
    comparable = list(map(_nan_lowest, values))
    return comparable.index(max(comparable))


def _nan_lowest(value: float) -> float:
    return value if np.isfinite(value) else -np.inf
