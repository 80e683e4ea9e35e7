"""Metrics of a run within parts of its test rows, such as generators, with intervals on new prompts."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.metrics.all_metrics import CORRELATIONS, LIMITS
from tier4k.heads.metrics.bootstrap import distinct_prompts, resampled_means, spread
from tier4k.heads.metrics.recipe import recipe_interval
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.reporting.choices import Part
from tier4k.heads.reporting.report_run import ReportRun

NAN = float("nan")


@dataclass(frozen=True)
class PartInterval:
    """A metric within one part of the test rows.

    Attributes:
        part: Name of the part.
        images: Number of distinct images.
        mean: Mean over the repeats in which the part has the metric, as in `breakdown`; NaN without one.
        interval: 95 % interval of the recipe on new prompts; NaN where the run has none, or the part has
            fewer than two prompts.
    """

    part: str
    images: int
    mean: float
    interval: tuple[float, float]


def part_intervals(
    run: ReportRun,
    target: str,
    by: Part,
    metric: str = "srcc",
) -> list[PartInterval]:
    """Measure a run within each part of the test rows of one target, in the order of the predictions.

    Args:
        run: The run.
        target: Name of a target of the run.
        by: Column that contains the part of each row.
        metric: Name of a correlation.
    """
    summary = run.results.summaries[target][run.results.headline][metric]
    has_interval = not summary.interval_reason
    fitted = run.results.headline not in UNFITTED
    rows = run.predictions[run.predictions["target"] == target]
    intervals = []
    for part, part_rows in rows.groupby(by, sort=False):
        measured = _measured_repeats(part_rows, metric)
        values = [CORRELATIONS[metric](one.truth, one.prediction) for one in measured]
        mean = float(np.mean(values)) if values else NAN
        interval = _interval(measured, mean, metric, fitted) if values and has_interval else (NAN, NAN)
        intervals.append(PartInterval(str(part), part_rows["name"].nunique(), mean, interval))
    return intervals


def _measured_repeats(rows: pd.DataFrame, metric: str) -> list[TestRows]:
    """Return the test rows of the repeats in which the metric is not NaN."""
    repeats = []
    for _, repeat_rows in rows.groupby("repeat"):
        test_rows = TestRows(
            repeat_rows["group"].to_numpy(str),
            repeat_rows["generator"].to_numpy(str),
            repeat_rows["truth"].to_numpy(float),
            repeat_rows["prediction"].to_numpy(float),
        )
        if np.isfinite(CORRELATIONS[metric](test_rows.truth, test_rows.prediction)):
            repeats.append(test_rows)
    return repeats


def _interval(
    repeats: list[TestRows],
    mean: float,
    metric: str,
    fitted: bool,
) -> tuple[float, float]:
    deviation = spread(resampled_means(repeats, metrics=(metric,))[metric]).deviation
    return recipe_interval(mean, deviation, distinct_prompts(repeats), fitted, LIMITS[metric])
