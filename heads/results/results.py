"""The results of a run, as stored in results.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.alignment import OTHER_SCALE
from tier4k.heads.evaluation.new_prompts import new_prompts_reason
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import UNFITTED, Choice, Trial, by_target, headline
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.results.config import RunConfig, RunMethod
from tier4k.heads.results.layout import RESULTS_FILE, damaged, read_run_file
from tier4k.heads.results.names import digest_in, run_name
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
        missing_scores: {target: number of these rows without a score for it}, without zeros. These rows take
            part in the other targets; the following counts include them.
        headline: The selection that is the result of the run; its predictions are kept.
        test_rows, test_prompts: For each repeat the numbers of test rows and of distinct test prompts.
        fewest_prompts: {target: the smallest number of prompts in the test rows of a repeat that have a score
            for it}.
        seen_prompts, seen_images, seen_siblings, seen_unknown: What the heads have seen of the test rows, as
            in `Seen`.
        summaries: {target: {selection, baseline or `RATERS`: {metric: Summary}}}.
        reasons: {target: {selection, baseline or `RATERS`: why metrics are NaN, separated by semicolons}}.
        new_prompts_reason: Why the test rows do not stand for new prompts of the same generators; "" if they
            do.
        prediction_intervals: {target: conformal interval of a prediction}, for targets whose heads had
            held-out rows; empty where the test rows do not stand for new prompts.
        chosen: {target: for each repeat, the options that a search chose for it}; empty for other runs.
        selection_srcc: {target: for each repeat, the SRCC on its selection part by which they were chosen}.
        datasets: Names of the data sets, if there are several.
        independent_images: Whether images were taken as independent, as the rows have neither text prompts
            nor a column of groups.
        unscored: Number of rows without a score of the scorer whose scores were made elsewhere; they are no
            test rows, and `test_rows` does not count them.
    """

    format: int
    id: str
    data: str
    method: RunMethod
    benchmark: Benchmark
    split: str
    estimator: str
    rows: int
    missing_scores: dict[str, int]
    headline: str
    test_rows: tuple[int, ...]
    test_prompts: tuple[int, ...]
    fewest_prompts: dict[str, int]
    seen_prompts: tuple[int, ...] | None
    seen_images: tuple[int, ...] | None
    seen_siblings: tuple[int, ...] | None
    seen_unknown: str
    summaries: Summaries
    reasons: dict[str, dict[str, str]]
    new_prompts_reason: str
    prediction_intervals: dict[str, Interval]
    chosen: dict[str, tuple[str, ...]]
    selection_srcc: dict[str, tuple[float, ...]]
    datasets: tuple[str, ...] = ()
    independent_images: bool = False
    unscored: int = 0

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
        against_new_prompts = new_prompts_reason(features, splits)
        choices = _choices(trials)
        seen = seen or Seen.in_training(features, splits)
        return cls(
            format=RUN_FORMAT,
            id=run_name(config),
            data=config.data,
            method=config.method,
            benchmark=config.benchmark,
            split=config.split,
            estimator=config.estimator,
            rows=len(features),
            missing_scores=_missing_scores(features, config.targets),
            headline=headline(trials[0].predictions),
            test_rows=tuple(len(split.test) for split in splits),
            test_prompts=tuple(len(np.unique(features.group[split.test])) for split in splits),
            fewest_prompts=_fewest_prompts(features, trials),
            seen_prompts=seen.prompts,
            seen_images=seen.images,
            seen_siblings=seen.siblings,
            seen_unknown=seen.unknown,
            summaries=summaries,
            reasons=_reasons(trials),
            new_prompts_reason=against_new_prompts,
            # A prediction interval is for images of new prompts, so the test rows must be such images.
            prediction_intervals={} if against_new_prompts else _intervals(features, held_out),
            chosen={target: tuple(one.options for one in own) for target, own in choices.items()},
            selection_srcc={target: tuple(one.srcc for one in own) for target, own in choices.items()},
            datasets=config.datasets,
        )

    @property
    def digest(self) -> str:
        """The ten digits of the run; "" if its ID does not end in digits."""
        return digest_in(self.id)

    @property
    def leaks(self) -> bool:
        """Whether the rows of training are known to contain a prompt or an image of the test rows."""
        return any(any(counts or ()) for counts in (self.seen_prompts, self.seen_images, self.seen_siblings))

    def has_unit(self, target: str) -> bool:
        """Return whether the predictions of a target are on the scale of the true scores in all repeats."""
        reasons = self.reasons[target].get(self.headline, "")
        return self.headline not in UNFITTED and OTHER_SCALE not in reasons

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Read the results of a run.

        Raises:
            ResultError: There is no run, its results are damaged, or it has another format.
        """
        results = read_run_file(folder, RESULTS_FILE, cls)
        for problem in _problems(results):
            raise damaged(folder / RESULTS_FILE, ValueError(problem))
        intervals = {}
        for target, interval in results.prediction_intervals.items():
            intervals[target] = _with_infinity(interval)
        return replace(results, prediction_intervals=intervals)


def _missing_scores(features: FeatureSet, targets: Sequence[str]) -> dict[str, int]:
    counts = {target: int(np.isnan(features.scores(target)).sum()) for target in targets}
    return {target: count for target, count in counts.items() if count}


def _fewest_prompts(features: FeatureSet, trials: Sequence[Trial]) -> dict[str, int]:
    fewest: dict[str, int] = {}
    for trial in trials:
        prompts = len(np.unique(features.group[trial.test]))
        fewest[trial.target] = min(prompts, fewest.get(trial.target, prompts))
    return fewest


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
    groups = {}
    for target, target_trials in by_target(trials).items():
        pairs = [(trial, trial.held_out) for trial in target_trials if trial.held_out]
        if len(pairs) == len(target_trials):
            groups[target] = pairs
    return groups


def _choices(trials: Sequence[Trial]) -> dict[str, list[Choice]]:
    """Return the choices of a search by target, in the order of the repeats."""
    choices = {}
    for target, target_trials in by_target(trials).items():
        own_choices = [trial.choice for trial in target_trials if trial.choice]
        if own_choices:
            choices[target] = own_choices
    return choices


def _intervals(
    features: FeatureSet,
    held_out: dict[str, list[tuple[Trial, TestRows]]],
) -> dict[str, Interval]:
    intervals = {}
    for target, pairs in held_out.items():
        selection = headline(pairs[0][0].predictions)
        test = []
        for trial, _ in pairs:
            test.append(trial.test_rows(features, selection))
        intervals[target] = Interval.of([rows for _, rows in pairs], test)
    return intervals


def _with_infinity(interval: Interval) -> Interval:
    """Replace NaN half-widths by infinity: JSON has no infinity, so null stands for it."""
    widths = np.array(interval.half_width)
    return replace(interval, half_width=tuple(np.where(np.isnan(widths), np.inf, widths).tolist()))


def _problems(results: Results) -> Iterator[str]:
    """Yield contradictions between values that have the right types."""
    repeats = len(results.test_rows)
    for name, values in (("chosen", results.chosen), ("selection_srcc", results.selection_srcc)):
        if values and set(values) != set(results.summaries):
            yield f"`$.{name}` does not have the targets of `$.summaries`"
        if any(len(own) != repeats for own in values.values()):
            yield f"`$.{name}` does not have {repeats} values for each target"
    if not results.summaries:
        yield "`$.summaries` has no target"
    if set(results.fewest_prompts) != set(results.summaries):
        yield "`$.fewest_prompts` does not have the targets of `$.summaries`"
    for target, names in results.summaries.items():
        if results.headline not in names:
            yield f"`$.summaries` of {target} lacks the result, {results.headline}"
        for name, metrics in names.items():
            if missing_metrics := [metric for metric in METRICS if metric not in metrics]:
                yield f"`$.summaries` of {target}, {name}, lacks {', '.join(missing_metrics)}"
            if any(len(summary.values) != repeats for summary in metrics.values()):
                yield f"`$.summaries` of {target}, {name}, does not have {repeats} values"
