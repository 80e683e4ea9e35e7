"""Paired comparisons of runs on the same test rows.

Intervals and p-values are those of two recipes on new prompts (see `tier4k.heads.metrics.recipe`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.metrics.all_metrics import CORRELATIONS
from tier4k.heads.metrics.bootstrap import distinct_prompts, resampled_means, spread
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.recipe import recipe_interval, recipe_p
from tier4k.heads.metrics.significance import holm
from tier4k.heads.metrics.test_rows import TestRows, columns_of, from_columns
from tier4k.heads.metrics.williams import WILLIAMS, Williams, williams
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.results.read import read_predictions
from tier4k.heads.results.results import Results

COMPARED = {**CORRELATIONS, "rmse": rmse}

SIGNIFICANT = 0.05  # p-values after Holm's correction under this are shown as significant

NAN = float("nan")

ROW_ORDER = ["repeat", "name"]

ROW_IDENTITY = ["repeat", "name", "group", "truth"]


@dataclass(frozen=True)
class Comparison:
    """The difference of two runs in one metric of one target.

    Attributes:
        target, metric: The target, and the metric in which the runs are compared.
        first, second: Places of the two runs among the compared runs, from 0.
        means: Mean of the metric over the repeats of each run.
        difference: First minus second.
        interval: 95 % interval of the difference for new training sets and new prompts of the same
            generators; NaN where `interval_reason` gives the reason.
        interval_reason: Why there is no such interval and no p-value; "" if there is one.
        interval_fitted_heads: 95 % interval of the difference for these fitted heads: bootstrap over test
            prompts, both runs with the same resamples.
        fitted: Whether a head was fitted in one of the runs, so that new training sets vary.
        p: Two-sided p-value of no difference, from the same t distribution as `interval`; NaN where
            `interval_reason` gives the reason.
        p_holm: The p-value after Holm's correction for all comparisons of the table.
        williams: Williams' test, for SRCC and PLCC. The test assumes that rows are independent, which
            rows of one prompt are not: where they correlate, it calls a fifth of equal runs different.
            Therefore it is only written to files.
    """

    target: str
    metric: str
    first: int
    second: int
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    interval_reason: str
    interval_fitted_heads: tuple[float, float]
    fitted: bool
    p: float
    p_holm: float = float("nan")
    williams: Williams | None = None


def compare(
    runs: Sequence[Path],
    metric: str = "srcc",
    seed: int = 0,
    reference: int | None = None,
) -> list[Comparison]:
    """Compare every pair of runs, or every run with a reference, in every target that all runs have.

    Args:
        runs: Folders of runs with the same test rows.
        metric: Name of a metric in `COMPARED`.
        seed: Seed of the resampling.
        reference: Place of the run that every other run is compared with, as the second run; None for every
            pair.

    Raises:
        ReportError: There are fewer than two runs; the runs have no common target, or differ in test rows or
            scores; or RMSE was requested of a run that was not fitted to these scores.
        ResultError: A run cannot be read.
    """
    if len(runs) < 2:
        raise ReportError("a comparison needs two runs or more: use tier compare RUN RUN")
    tables = list(map(read_predictions, runs))
    results = list(map(Results.read, runs))
    comparisons = []
    for target in _common_targets(tables):
        if metric == "rmse":
            _require_unit(runs, results, target)
        compared = []
        for own_results, rows in zip(results, _test_rows(runs, tables, target), strict=True):
            compared.append(_Compared.of(own_results, target, metric, rows, seed))
        comparisons += _compare_pairs(target, metric, compared, reference)
    return _correct_for_number(comparisons)


def _require_unit(
    runs: Sequence[Path],
    results: Sequence[Results],
    target: str,
) -> None:
    for run, own_results in zip(runs, results, strict=True):
        if not own_results.has_unit(target):
            raise ReportError(
                f"{run} was not fitted to these scores, so its predictions are not in the units of the "
                "target: pass --metric srcc, krcc or plcc"
            )


@dataclass(frozen=True)
class _Compared:
    """One run in one target and metric.

    Attributes:
        rows: Test rows of every repeat.
        mean: Mean of the metric over the repeats.
        resampled: That mean (B,) in every resample of the test prompts.
        fitted: Whether a head was fitted.
        reason: Why the run has no interval for new prompts; "" if it has one, or if its metric is NaN.
    """

    rows: Sequence[TestRows]
    mean: float
    resampled: np.ndarray
    fitted: bool
    reason: str

    @classmethod
    def of(
        cls,
        results: Results,
        target: str,
        metric: str,
        rows: Sequence[TestRows],
        seed: int,
    ) -> "_Compared":
        """Measure a run on its test rows of one target."""
        return cls(
            rows=rows,
            mean=_mean(metric, rows),
            resampled=_resampled_metric(metric, seed, *columns_of(rows)),
            fitted=results.headline not in UNFITTED,
            reason=results.summaries[target][results.headline][metric].interval_reason,
        )


def _common_targets(tables: Sequence[pd.DataFrame]) -> list[str]:
    common = list(tables[0]["target"].unique())
    listed = []
    for table in tables:
        targets = list(table["target"].unique())
        common = [target for target in common if target in targets]
        listed.append(", ".join(targets))
    if not common:
        raise ReportError(f"the runs have no target in common: {'; '.join(listed)}")
    return common


def _correct_for_number(comparisons: Sequence[Comparison]) -> list[Comparison]:
    corrected = holm(np.array([comparison.p for comparison in comparisons]))
    with_holm = []
    for comparison, p in zip(comparisons, corrected, strict=True):
        with_holm.append(replace(comparison, p_holm=float(p)))
    return with_holm


def _compare_pairs(
    target: str,
    metric: str,
    runs: Sequence[_Compared],
    reference: int | None,
) -> list[Comparison]:
    comparisons = []
    for first, second in _pairs(len(runs), reference):
        one = runs[first]
        other = runs[second]
        difference = one.mean - other.mean
        spread_of_difference = spread(one.resampled - other.resampled)
        prompts = distinct_prompts(one.rows)
        fitted = one.fitted or other.fitted
        deviation = spread_of_difference.deviation
        reason = one.reason or other.reason
        if not reason and not np.isfinite([difference, deviation]).all():
            reason = f"{metric} is NaN"
        comparison = Comparison(
            target=target,
            metric=metric,
            first=first,
            second=second,
            means=(one.mean, other.mean),
            difference=difference,
            interval=(NAN, NAN) if reason else recipe_interval(difference, deviation, prompts, fitted),
            interval_reason=reason,
            interval_fitted_heads=spread_of_difference.interval,
            fitted=fitted,
            p=NAN if reason else recipe_p(difference, deviation, prompts, fitted),
            williams=williams(metric, one.rows, other.rows) if metric in WILLIAMS else None,
        )
        comparisons.append(comparison)
    return comparisons


def _pairs(runs: int, reference: int | None) -> list[tuple[int, int]]:
    """Return the places of the runs that are compared with each other."""
    if reference is None:
        return list(combinations(range(runs), 2))
    return [(place, reference) for place in range(runs) if place != reference]


def _mean(metric: str, repeats: Sequence[TestRows]) -> float:
    measure = COMPARED[metric]
    return float(np.mean([measure(rows.truth, rows.prediction) for rows in repeats]))


@memoized
def _resampled_metric(metric: str, seed: int, *columns: np.ndarray) -> np.ndarray:
    """Return the resampled means (B,) of repeats; `columns` is what `columns_of` returned.

    The function is memoized, as a run is compared with many other runs.
    """
    return resampled_means(from_columns(columns), seed, (metric,))[metric]


def _test_rows(
    runs: Sequence[Path],
    tables: Sequence[pd.DataFrame],
    target: str,
) -> list[list[TestRows]]:
    """Return the test rows of every run and repeat, ordered alike in each run, with prompts as numbers."""
    ordered = []
    for table in tables:
        target_rows = table[table["target"] == target]
        ordered.append(target_rows.sort_values(ROW_ORDER, kind="stable"))
    _require_same_rows(runs, ordered)
    prompts = np.unique(ordered[0]["group"].to_numpy(str))
    rows = []
    for table in ordered:
        repeats = [_rows(part, prompts) for _, part in table.groupby("repeat")]
        rows.append(repeats)
    return rows


def _require_same_rows(runs: Sequence[Path], tables: Sequence[pd.DataFrame]) -> None:
    expected = tables[0][ROW_IDENTITY].to_numpy()
    for run, table in zip(runs[1:], tables[1:], strict=True):
        identities = table[ROW_IDENTITY].to_numpy()
        if not np.array_equal(expected, identities):
            raise ReportError(
                f"{runs[0]} and {run} were not tested on the same rows with the same scores: "
                "compare runs with equal data, --benchmark, --split, --seed, --repeats and --seeds"
            )


def _rows(table: pd.DataFrame, prompts: np.ndarray) -> TestRows:
    return TestRows(
        np.searchsorted(prompts, table["group"].to_numpy(str)),
        table["generator"].to_numpy(str),
        table["truth"].to_numpy(float),
        table["prediction"].to_numpy(float),
    )


def comparison_frame(comparisons: Sequence[Comparison], runs: Sequence[Path]) -> pd.DataFrame:
    """Return a table with one line for each comparison.

    Args:
        comparisons: What `compare` returned.
        runs: Folders of the compared runs.

    Returns:
        Columns target, metric, first, second (folders), mean_first, mean_second, difference, low, high (95 %
        interval for new training sets and new prompts), interval_reason, low_fitted_heads,
        high_fitted_heads, p, p_holm, p_williams and williams_reason.
    """
    lines = []
    for comparison in comparisons:
        test = comparison.williams or Williams(NAN, f"Williams' test does not exist for {comparison.metric}")
        line = {
            "target": comparison.target,
            "metric": comparison.metric,
            "first": str(runs[comparison.first]),
            "second": str(runs[comparison.second]),
            "mean_first": comparison.means[0],
            "mean_second": comparison.means[1],
            "difference": comparison.difference,
            "low": comparison.interval[0],
            "high": comparison.interval[1],
            "interval_reason": comparison.interval_reason,
            "low_fitted_heads": comparison.interval_fitted_heads[0],
            "high_fitted_heads": comparison.interval_fitted_heads[1],
            "p": comparison.p,
            "p_holm": comparison.p_holm,
            "p_williams": test.p,
            "williams_reason": test.why_not,
        }
        lines.append(line)
    return pd.DataFrame(lines)
