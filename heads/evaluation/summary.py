"""Summarise trials: each metric over the repeats, with a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.trial import SELECTIONS, UNFITTED, Trial
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.bootstrap import bootstrap_intervals
from tier4k.heads.metrics.raters import RATERS

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """One metric of one target and selection over all repeats.

    Attributes:
        values: The raw value of every repeat.
        mean, sd, median: Statistics over the R repeats; sd divides by R - 1 and is NaN for one repeat.
        interval: 95 % interval of the mean, by bootstrap over prompts; NaN if no predictions are kept
            (best_test).
        sd_splits: Standard deviation over distinct test parts of the mean over the repeats that share one;
            NaN for one test part.
        sd_seeds: Mean over the test parts of the standard deviation over the repeats that share one, whose
            heads and validation parts have other seeds; NaN where no two repeats do.
    """

    values: tuple[float, ...]
    mean: float
    sd: float
    median: float
    interval: tuple[float, float]
    sd_splits: float
    sd_seeds: float


def summarize(
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
) -> dict[str, dict[str, dict[str, Summary]]]:
    """Return all metrics as {target: {selection, baseline or `RATERS`: {metric: Summary}}}.

    Args:
        features: Features and scores of the rows that the run uses.
        trials: One trial for each target and repeat; trials of one target are in the order of the repeats.
        splits: One split for each repeat.
    """
    by_target: dict[str, list[Trial]] = {}
    for trial in trials:
        by_target.setdefault(trial.target, []).append(trial)
    return {
        target: _summarize_target(features, target_trials, splits)
        for target, target_trials in by_target.items()
    }


def _summarize_target(
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
) -> dict[str, dict[str, Summary]]:
    test_parts = [split.test.tobytes() for split in splits]
    summaries: dict[str, dict[str, Summary]] = {}
    for name in (*UNFITTED, *SELECTIONS, *BASELINES, RATERS):
        if name not in trials[0].metrics:
            continue
        intervals = _intervals(features, trials, name)
        summaries[name] = {}
        for metric in METRICS:
            values = [trial.metrics[name][metric] for trial in trials]
            summaries[name][metric] = _summary(values, intervals.get(metric), test_parts)
    return summaries


def _intervals(
    features: FeatureSet,
    trials: Sequence[Trial],
    name: str,
) -> dict[str, tuple[float, float]]:
    """Return the bootstrap intervals of a selection or baseline by metric; empty without kept predictions."""
    if name not in trials[0].predictions:
        return {}
    repeats = []
    for trial in trials:
        repeats.append(trial.test_rows(features, name))
    return bootstrap_intervals(repeats)


def _summary(
    values: Sequence[float],
    interval: tuple[float, float] | None,
    test_parts: Sequence[bytes],
) -> Summary:
    array = np.array(values)
    if interval is None or np.isnan(array).all():
        interval = (NAN, NAN)
    part_values = []
    for part in dict.fromkeys(test_parts):
        shares_part = [other == part for other in test_parts]
        part_values.append(array[shares_part])
    return Summary(
        values=tuple(map(float, values)),
        mean=float(array.mean()),
        sd=_sd(array),
        median=float(np.median(array)),
        interval=interval,
        sd_splits=_sd(np.array([part.mean() for part in part_values])),
        sd_seeds=float(np.mean([_sd(part) for part in part_values])),
    )


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else NAN
