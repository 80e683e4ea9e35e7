"""The summary of trials: each metric over repeats, with a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.trial import SELECTIONS, UNFITTED, Trial
from tier4k.heads.metrics.bootstrap import TestRows, bootstrap_intervals
from tier4k.heads.metrics.evaluate import METRICS


@dataclass(frozen=True)
class Summary:
    """One figure of one target and selection over all repeats.

    Attributes:
        values: The raw value of every repeat.
        mean, sd, median: Over the repeats; sd with R - 1, NaN for one repeat.
        sd_splits: Standard deviation over distinct test parts of the mean over the repeats that share one; NaN for one test part.
        sd_seeds: Mean over the test parts of the standard deviation over the repeats that share one, whose heads and validation parts have
            other seeds; NaN where no two repeats do.
        interval: 95 % interval of the mean, by bootstrap over prompts; NaN where no predictions are kept (best_test).
    """

    values: tuple[float, ...]
    mean: float
    sd: float
    median: float
    interval: tuple[float, float]
    sd_splits: float
    sd_seeds: float


def summarize(
    features: FeatureSet, trials: Sequence[Trial], splits: Sequence[Split]
) -> dict[str, dict[str, dict[str, Summary]]]:
    """All figures as {target: {selection or floor: {metric: Summary}}}."""
    return {
        target: _summarize_target(features, [trial for trial in trials if trial.target == target], splits)
        for target in dict.fromkeys(trial.target for trial in trials)
    }


def _summarize_target(
    features: FeatureSet, trials: Sequence[Trial], splits: Sequence[Split]
) -> dict[str, dict[str, Summary]]:
    out, parts = {}, [split.test.tobytes() for split in splits]
    for name in (name for name in (*UNFITTED, *SELECTIONS, *BASELINES) if name in trials[0].figures):
        intervals = {}
        if name in trials[0].predictions:
            intervals = bootstrap_intervals(
                [
                    TestRows(features.group[s.test], t.truth, t.predictions[name])
                    for t, s in zip(trials, splits, strict=True)
                ]
            )
        out[name] = {
            metric: _summary([trial.figures[name][metric] for trial in trials], intervals.get(metric), parts)
            for metric in METRICS
        }
    return out


def _summary(
    values: Sequence[float], interval: tuple[float, float] | None, parts: Sequence[bytes]
) -> Summary:
    array = np.array(values)
    if np.isnan(array).all():
        interval = None
    of_part = [array[[part == one for one in parts]] for part in dict.fromkeys(parts)]
    return Summary(
        tuple(map(float, values)),
        float(array.mean()),
        _sd(array),
        float(np.median(array)),
        interval or (float("nan"), float("nan")),
        sd_splits=_sd(np.array([some.mean() for some in of_part])),
        sd_seeds=float(np.mean([_sd(some) for some in of_part])),
    )


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
