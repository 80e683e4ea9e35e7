"""Is one run better than another? A paired comparison on the very same test rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.errors import TierError
from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.metrics.bootstrap import TestRows, interval, resampled_means
from tier4k.heads.metrics.correlation import krcc, plcc, rmse, srcc
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.significance import RESAMPLES, _p, holm
from tier4k.heads.metrics.williams import WILLIAMS, Williams, williams
from tier4k.heads.results.files import read_predictions
from tier4k.heads.results.results import Results

COMPARED = {"srcc": srcc, "krcc": krcc, "plcc": plcc, "rmse": rmse}

ROW = ["repeat", "name"]


class CompareError(TierError):
    """Runs that cannot be compared."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two runs in one figure of one target.

    Attributes:
        target, metric: What is compared.
        first, second: Numbers of the runs, from 0.
        figures: Mean over the repeats of each.
        difference: First minus second.
        interval: 95 % interval of the difference, by bootstrap over test prompts, both runs being given the same resamples.
        p: Two-sided p-value of no difference: twice the share of resamples on the other side of zero, at least 2 / (B + 1).
        p_holm: The same after Holm's correction for all comparisons of the table.
        williams: Williams' test, for srcc and plcc; said beside p, as it takes the rows of one prompt to be independent.
    """

    target: str
    metric: str
    first: int
    second: int
    figures: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float = float("nan")
    williams: Williams | None = None


def compare(runs: Sequence[Path], metric: str = "srcc", seed: int = 0) -> list[Comparison]:
    """Compare every pair of runs in every target that all have.

    What differs by chance between two trainings with other seeds is not in the intervals: they are about these fitted heads.

    Args:
        runs: Folders of runs whose test rows are the same.
        metric: A name of `COMPARED`.
        seed: Seed of the resampling.

    Raises:
        CompareError: Fewer than two runs, no common target, other test rows or scores, or RMSE of scores that were not fitted to these.
        ResultError: A run cannot be read.
    """
    if len(runs) < 2:
        raise CompareError("a comparison needs two runs or more: tier compare RUN RUN")
    if metric == "rmse" and (without := [run for run in runs if Results.read(run).headline in UNFITTED]):
        raise CompareError(
            f"{without[0]} was not fitted to these scores: its own are not in the units of the target, compare in srcc, krcc or plcc"
        )
    tables = [read_predictions(run) for run in runs]
    targets = [
        target
        for target in tables[0]["target"].unique()
        if all(target in set(table["target"]) for table in tables)
    ]
    if not targets:
        raise CompareError(
            f"the runs have no target in common: {'; '.join(', '.join(table['target'].unique()) for table in tables)}"
        )
    comparisons = []
    for target in targets:
        rows = _test_rows(runs, [table[table["target"] == target] for table in tables])
        comparisons += _pairs(target, metric, rows, seed)
    corrected = holm(np.array([comparison.p for comparison in comparisons]))
    return [
        replace(comparison, p_holm=float(p)) for comparison, p in zip(comparisons, corrected, strict=True)
    ]


def _pairs(target: str, metric: str, rows: Sequence[Sequence[TestRows]], seed: int) -> list[Comparison]:
    """Every pair of runs, given the test rows of every repeat of each."""
    resampled = [
        _resampled(
            metric,
            seed,
            RESAMPLES,
            *(column for one in repeats for column in (one.group, one.truth, one.prediction)),
        )
        for repeats in rows
    ]
    figures = [
        float(np.mean([COMPARED[metric](one.truth, one.prediction) for one in repeats])) for repeats in rows
    ]
    comparisons = []
    for first, second in combinations(range(len(rows)), 2):
        both, differences = (figures[first], figures[second]), resampled[first] - resampled[second]
        one = Comparison(
            target, metric, first, second, both, both[0] - both[1], interval(differences), _p(differences)
        )
        comparisons.append(
            replace(one, williams=williams(metric, rows[first], rows[second])) if metric in WILLIAMS else one
        )
    return comparisons


@memoized
def _resampled(metric: str, seed: int, resamples: int, *columns: np.ndarray) -> np.ndarray:
    """Resampled figures of repeats whose groups, truths and predictions stand side by side; a run is compared with many others."""
    repeats = [TestRows(*columns[start : start + 3]) for start in range(0, len(columns), 3)]
    return resampled_means(repeats, seed, (metric,), resamples)[metric]


def _test_rows(runs: Sequence[Path], tables: Sequence[pd.DataFrame]) -> list[list[TestRows]]:
    """The test rows of every run and repeat, in the same order in each run, their prompts as numbers."""
    ordered = [table.sort_values(ROW, kind="stable") for table in tables]
    known = ["repeat", "name", "group", "truth"]
    for run, table in zip(runs[1:], ordered[1:], strict=True):
        if not np.array_equal(ordered[0][known].to_numpy(), table[known].to_numpy()):
            raise CompareError(
                f"{runs[0]} and {run} were not tested on the same rows with the same scores: compare runs with equal data, benchmark, "
                "--split, --seed and --repeats"
            )
    prompts = np.unique(ordered[0]["group"].to_numpy(str))
    return [[_rows(part, prompts) for _, part in table.groupby("repeat")] for table in ordered]


def _rows(table: pd.DataFrame, prompts: np.ndarray) -> TestRows:
    return TestRows(
        np.searchsorted(prompts, table["group"].to_numpy(str)),
        table["truth"].to_numpy(float),
        table["prediction"].to_numpy(float),
    )
