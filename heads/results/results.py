"""The results of a run, as stored in results.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import Trial, headline
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.bootstrap import TestRows
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.metrics.correlation import srcc
from tier4k.heads.results.config import RunConfig, RunMethod
from tier4k.heads.results.layout import RESULTS_FILE, damaged, read_run_file
from tier4k.heads.results.run_format import RUN_FORMAT
from tier4k.heads.results.seen import Seen

Summaries = dict[str, dict[str, dict[str, Summary]]]


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        format: `RUN_FORMAT` of the files of the run.
        id: Identity of the run.
        data: Name of the data set.
        method, benchmark, split, estimator: As in the configuration.
        rows: Number of rows of the benchmark.
        headline: The selection that is the result of the run; its predictions are kept.
        test_rows, test_prompts: For each repeat the numbers of test rows and of distinct test prompts.
        seen_prompts, seen_images, seen_siblings, seen_unknown: What the heads have seen of the test rows, as
            in `Seen`.
        summaries: {target: {selection or baseline: {metric: Summary}}}.
        reasons: {target: {selection or baseline: why its correlations are NaN}}.
        intervals: {target: conformal interval of a prediction}, for targets whose heads had held-out rows.
        held_out_srcc: {target: for each repeat, the SRCC on the held-out rows}, for the same targets; runs
            may be selected by these values.
    """

    format: int
    id: str
    data: str
    method: RunMethod
    benchmark: Benchmark
    split: str
    estimator: str
    rows: int
    headline: str
    test_rows: tuple[int, ...]
    test_prompts: tuple[int, ...]
    seen_prompts: tuple[int, ...] | None
    seen_images: tuple[int, ...] | None
    seen_siblings: tuple[int, ...] | None
    seen_unknown: str
    summaries: Summaries
    reasons: dict[str, dict[str, str]]
    intervals: dict[str, Interval]
    held_out_srcc: dict[str, tuple[float, ...]]

    @classmethod
    def of(
        cls,
        config: RunConfig,
        features: FeatureSet,
        trials: Sequence[Trial],
        splits: Sequence[Split],
        summaries: Summaries,
        seen: Seen | None = None,
    ) -> "Results":
        """Gather the results of a run.

        Args:
            config: Configuration of the run.
            features: Features and scores of the rows that the run uses.
            trials: One trial for each target and repeat.
            splits: One split for each repeat.
            summaries: Summaries of the trials.
            seen: What heads that were fitted elsewhere have seen of the test rows; None if the heads were
                fitted on the training and validation rows of the splits.
        """
        held_out = _group_held_out_rows(trials)
        seen = seen or Seen.in_training(features, splits)
        return cls(
            format=RUN_FORMAT,
            id=config.id,
            data=config.data,
            method=config.method,
            benchmark=config.benchmark,
            split=config.split,
            estimator=config.estimator,
            rows=len(features),
            headline=headline(trials[0].predictions),
            test_rows=tuple(len(split.test) for split in splits),
            test_prompts=tuple(len(np.unique(features.group[split.test])) for split in splits),
            seen_prompts=seen.prompts,
            seen_images=seen.images,
            seen_siblings=seen.siblings,
            seen_unknown=seen.unknown,
            summaries=summaries,
            reasons=_reasons(trials),
            intervals=_intervals(features, splits, held_out),
            held_out_srcc=_held_out_srcc(held_out),
        )

    @property
    def leaks(self) -> bool:
        """Whether the rows of training are known to contain a prompt or an image of the test rows."""
        return any(any(counts or ()) for counts in (self.seen_prompts, self.seen_images, self.seen_siblings))

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Read the results of a run.

        Raises:
            ResultError: There is no run, its results are damaged, or it has another format.
        """
        results = read_run_file(folder, RESULTS_FILE, cls)
        for problem in _problems(results):
            raise damaged(folder / RESULTS_FILE, ValueError(problem))
        intervals = {target: _with_infinity(interval) for target, interval in results.intervals.items()}
        return replace(results, intervals=intervals)


def _reasons(trials: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Return {target: {selection or baseline: the distinct reasons of all repeats}}."""
    reasons: dict[str, dict[str, str]] = {}
    for trial in trials:
        target_reasons = reasons.setdefault(trial.target, {})
        for name, reason in trial.reasons.items():
            parts = [*target_reasons.get(name, "").split("; "), *reason.split("; ")]
            target_reasons[name] = "; ".join(filter(None, dict.fromkeys(parts)))
    return reasons


def _group_held_out_rows(trials: Sequence[Trial]) -> dict[str, list[tuple[Trial, TestRows]]]:
    """Group trials with their held-out rows by target. Leave out a target if any of its trials has none."""
    by_target: dict[str, list[Trial]] = {}
    for trial in trials:
        by_target.setdefault(trial.target, []).append(trial)
    groups = {}
    for target, target_trials in by_target.items():
        pairs = [(trial, trial.held_out) for trial in target_trials if trial.held_out]
        if len(pairs) == len(target_trials):
            groups[target] = pairs
    return groups


def _held_out_srcc(held_out: dict[str, list[tuple[Trial, TestRows]]]) -> dict[str, tuple[float, ...]]:
    values = {}
    for target, pairs in held_out.items():
        values[target] = tuple(srcc(rows.truth, rows.prediction) for _, rows in pairs)
    return values


def _intervals(
    features: FeatureSet,
    splits: Sequence[Split],
    held_out: dict[str, list[tuple[Trial, TestRows]]],
) -> dict[str, Interval]:
    intervals = {}
    for target, pairs in held_out.items():
        selection = headline(pairs[0][0].predictions)
        test = []
        for trial, _ in pairs:
            group = features.group[splits[trial.repeat].test]
            test.append(TestRows(group, trial.truth, trial.predictions[selection]))
        intervals[target] = Interval.of([rows for _, rows in pairs], test)
    return intervals


def _with_infinity(interval: Interval) -> Interval:
    """Replace NaN half-widths by infinity: JSON has no infinity, so null stands for it."""
    widths = np.array(interval.half_width)
    return replace(interval, half_width=tuple(np.where(np.isnan(widths), np.inf, widths).tolist()))


def _problems(results: Results) -> Iterator[str]:
    """Yield contradictions between values that have the right types."""
    repeats = len(results.test_rows)
    if not results.summaries:
        yield "`$.summaries` has no target"
    for target, names in results.summaries.items():
        if results.headline not in names:
            yield f"`$.summaries` of {target} lacks the result, {results.headline}"
        for name, metrics in names.items():
            if missing_metrics := [metric for metric in METRICS if metric not in metrics]:
                yield f"`$.summaries` of {target}, {name}, lacks {', '.join(missing_metrics)}"
            if any(len(summary.values) != repeats for summary in metrics.values()):
                yield f"`$.summaries` of {target}, {name}, does not have {repeats} values"
