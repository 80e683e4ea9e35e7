"""Paired comparisons of runs on the same test rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.metrics.bootstrap import interval, resampled_means
from tier4k.heads.metrics.correlation import (
    krcc,
    plcc,
    rmse,
    srcc,
)
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.significance import RESAMPLES, holm, two_sided_p
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.metrics.williams import WILLIAMS, Williams, williams
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.results.read import read_predictions
from tier4k.heads.results.results import Results

COMPARED = {"srcc": srcc, "krcc": krcc, "plcc": plcc, "rmse": rmse}

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
        interval: 95 % interval of the difference, by bootstrap over test prompts, both runs with the same
            resamples.
        p: Two-sided p-value of no difference: twice the share of resamples on the other side of zero, at
            least 2 / (B + 1).
        p_holm: The p-value after Holm's correction for all comparisons of the table.
        williams: Williams' test, for SRCC and PLCC. The test assumes that rows are independent, which
            rows of one prompt are not.
    """

    target: str
    metric: str
    first: int
    second: int
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float = float("nan")
    williams: Williams | None = None


def compare(
    runs: Sequence[Path],
    metric: str = "srcc",
    seed: int = 0,
) -> list[Comparison]:
    """Compare every pair of runs in every target that all runs have.

    The intervals hold for the fitted heads: they do not include the variation between trainings.

    Args:
        runs: Folders of runs with the same test rows.
        metric: Name of a metric in `COMPARED`.
        seed: Seed of the resampling.

    Raises:
        ReportError: There are fewer than two runs; the runs have no common target, or differ in test rows or
            scores; or RMSE was requested of a run that was not fitted to these scores.
        ResultError: A run cannot be read.
    """
    if len(runs) < 2:
        raise ReportError("a comparison needs two runs or more: use tier compare RUN RUN")
    if metric == "rmse":
        _require_fitted(runs)
    tables = list(map(read_predictions, runs))
    comparisons = []
    for target in _common_targets(tables):
        rows = _test_rows(runs, tables, target)
        comparisons += _compare_pairs(target, metric, rows, seed)
    return _correct_for_number(comparisons)


def _require_fitted(runs: Sequence[Path]) -> None:
    for run in runs:
        if Results.read(run).headline in UNFITTED:
            raise ReportError(
                f"{run} was not fitted to these scores, so its predictions are not in the units of the "
                "target: pass --metric srcc, krcc or plcc"
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
    rows: Sequence[Sequence[TestRows]],
    seed: int,
) -> list[Comparison]:
    """Compare every pair of runs; `rows` has the test rows of every repeat of each run."""
    means = []
    resampled = []
    for repeats in rows:
        means.append(_mean(metric, repeats))
        resampled.append(_resampled_metric(metric, seed, RESAMPLES, *_columns(repeats)))
    comparisons = []
    for first, second in combinations(range(len(rows)), 2):
        differences = resampled[first] - resampled[second]
        classical = williams(metric, rows[first], rows[second]) if metric in WILLIAMS else None
        comparison = Comparison(
            target=target,
            metric=metric,
            first=first,
            second=second,
            means=(means[first], means[second]),
            difference=means[first] - means[second],
            interval=interval(differences),
            p=two_sided_p(differences),
            williams=classical,
        )
        comparisons.append(comparison)
    return comparisons


def _mean(metric: str, repeats: Sequence[TestRows]) -> float:
    measure = COMPARED[metric]
    return float(np.mean([measure(rows.truth, rows.prediction) for rows in repeats]))


def _columns(repeats: Sequence[TestRows]) -> list[np.ndarray]:
    """List the columns of `TestRows` of all repeats, one repeat after the other."""
    columns = []
    for rows in repeats:
        columns += [rows.group, rows.generator, rows.truth, rows.prediction]
    return columns


@memoized
def _resampled_metric(metric: str, seed: int, resamples: int, *columns: np.ndarray) -> np.ndarray:
    """Return the resampled means (B,) of repeats; `columns` is what `_columns` returns.

    The function is memoized, as a run is compared with many other runs.
    """
    repeats = []
    for start in range(0, len(columns), 4):
        repeats.append(TestRows(*columns[start : start + 4]))
    return resampled_means(repeats, seed, (metric,), resamples)[metric]


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
                "compare runs with equal data, --benchmark, --split, --seed and --repeats"
            )


def _rows(table: pd.DataFrame, prompts: np.ndarray) -> TestRows:
    return TestRows(
        np.searchsorted(prompts, table["group"].to_numpy(str)),
        table["generator"].to_numpy(str),
        table["truth"].to_numpy(float),
        table["prediction"].to_numpy(float),
    )
