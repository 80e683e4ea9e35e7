"""Fit and evaluate heads on every target and repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import Fused
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.evaluation.trial import Outcome, Trial, mean_over_crops
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.registry import fit_heads, head_spec, make_head
from tier4k.heads.regressors.tasks import FitTask, WatchedRows, Weights


def run_trials(
    features: FeatureSet,
    fused: Fused,
    targets: Sequence[str],
    splits: Sequence[Split],
    estimator: str,
    head_options: dict[str, Any],
    finished: Progress = no_progress,
    starts: Mapping[tuple[str, int], Weights] = MappingProxyType({}),
    device: str = "cpu",
) -> list[Trial]:
    """Fit and evaluate one head for every target and repeat, on the rows with a score for the target.

    Args:
        features: Features and scores of the rows that the run uses.
        fused: Fused vectors (N, d) of the rows, or (N, V, d) of V crops, with their streams: heads learn from
            every crop or from their mean, and a prediction is the mean over all.
        targets: Names of targets.
        splits: One split for each repeat.
        estimator: Name of the head.
        head_options: Options of the head.
        finished: Called with (heads fitted, heads in all).
        starts: Weights that training starts from, by target and repeat; other heads start with new weights.
        device: Device on which networks are fitted, by torch's name; other heads are fitted on the CPU.
    """
    fused = _inputs(estimator, fused)
    start = perf_counter()
    jobs = _fitted_jobs(features, fused, targets, splits, estimator, head_options, finished, starts, device)
    seconds = (perf_counter() - start) / len(jobs)
    trials = []
    for job in jobs:
        outcome = job.outcome(features, fused.X, seconds)
        trials.append(Trial.of(features, job.target, job.repeat, job.split, outcome))
    return trials


def predict_test_rows(
    features: FeatureSet,
    fused: Fused,
    target: str,
    splits: Sequence[Split],
    estimator: str,
    head_options: dict[str, Any],
    device: str = "cpu",
) -> list[np.ndarray]:
    """Fit one head for every split, and return only its predictions (M,) of the test rows with a score.

    The arguments and the predictions are those of `run_trials`.
    """
    fused = _inputs(estimator, fused)
    jobs = _fitted_jobs(features, fused, [target], splits, estimator, head_options, device=device)
    return [mean_over_crops(job.head.predict, fused.X[job.split.test]) for job in jobs]


def _inputs(estimator: str, fused: Fused) -> Fused:
    """Return the fused vectors of all crops, or their mean (N, d) for heads that learn from it."""
    if head_spec(estimator).estimator.averages_crops and fused.X.ndim == 3:
        return fused._replace(X=fused.X.mean(axis=1))
    return fused


def _fitted_jobs(
    features: FeatureSet,
    fused: Fused,
    targets: Sequence[str],
    splits: Sequence[Split],
    estimator: str,
    head_options: dict[str, Any],
    finished: Progress = no_progress,
    starts: Mapping[tuple[str, int], Weights] = MappingProxyType({}),
    device: str = "cpu",
) -> "list[_Job]":
    jobs = []
    for target in targets:
        for repeat, split in enumerate(splits):
            head = make_head(estimator, head_options, split.seed)
            rows = scored_rows(features, target, split)
            jobs.append(_Job(target, repeat, rows.split, rows.scores, head, starts.get((target, repeat))))
    done = count(1)
    fit_heads(
        estimator,
        [job.head for job in jobs],
        fused.X.reshape(-1, fused.X.shape[-1]),
        fused.streams,
        [job.task(features, fused.X) for job in jobs],
        lambda _: finished(next(done), len(jobs)),
        device,
    )
    return jobs


@dataclass(frozen=True)
class _Job:
    """One head to be fitted, and its predictions of the test rows at every epoch.

    The split has only the rows with a score for the target; `scores` are those of `scored_rows`.
    """

    target: str
    repeat: int
    split: Split
    scores: np.ndarray
    head: Head
    start: Weights | None
    history: list[np.ndarray] = field(default_factory=list)

    def task(self, features: FeatureSet, fused: np.ndarray) -> FitTask:
        """Return the task of the head on fused vectors (N, d), or on (N, V, d) with each crop as a row."""
        crops = fused[0, ..., 0].size

        def on_epoch(_: int, predicted: np.ndarray) -> None:
            self.history.append(predicted.reshape(-1, crops).mean(axis=1))

        def rows(indices: np.ndarray) -> np.ndarray:
            return (indices[:, None] * crops + np.arange(crops)).ravel()

        return FitTask(
            scores=np.repeat(self.scores, crops),
            train=rows(self.split.train),
            validation=rows(self.split.validation) if len(self.split.validation) else None,
            watched=WatchedRows(rows(self.split.test), on_epoch),
            group=np.repeat(features.group, crops),
            start=self.start,
            name=f"{self.target}, repeat {self.repeat}",
        )

    def outcome(
        self,
        features: FeatureSet,
        fused: np.ndarray,
        seconds: float,
    ) -> Outcome:
        """Return the predictions and losses of the fitted head."""
        best_validation = None
        if len(self.split.validation):
            best_validation = mean_over_crops(self.head.predict, fused[self.split.test])
        losses = self.head.history
        return Outcome(
            head=self.head,
            history=self.history,
            best_validation=best_validation,
            seconds=seconds,
            held_out=self._held_out_rows(features, fused),
            training_loss=losses.training_loss,
            validation_loss=losses.validation_loss,
        )

    def _held_out_rows(self, features: FeatureSet, fused: np.ndarray) -> TestRows | None:
        """Return the validation rows, or the training rows if the head predicts each without its prompt."""
        rows = self.split.validation
        if len(rows):
            predicted = self.head.validation_prediction
            if predicted is None:
                predicted = mean_over_crops(self.head.predict, fused[rows])
        else:
            rows = self.split.train
            predicted = self.head.held_out_prediction
        if predicted is None:
            return None
        return TestRows(features.group[rows], features.generator[rows], self.scores[rows], predicted)
