"""Tables of the results of one run on a terminal."""

from collections.abc import Mapping, Sequence

import numpy as np

from tier4k.extract.screen.table import Column, Table, count_column, text_column
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import (
    ELSEWHERE,
    ZERO_SHOT,
)
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.levels import LEVEL_METRICS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.reporting.labels import (
    LABELS,
    label,
    references,
    selections,
    shown_baselines,
    table_metrics,
)
from tier4k.heads.reporting.leakage import leak_sentence
from tier4k.heads.reporting.terminal.cells import interval_cell, metric_cell
from tier4k.heads.results.config import SEVERAL
from tier4k.heads.results.names import digest_in
from tier4k.heads.results.results import Results

INTERVAL_IMPORTANCE = {"srcc": 90, "plcc": 70}

# Where a table is too wide, the metrics with the smallest numbers are left out first.
RESULT_IMPORTANCE = {
    "srcc": 95,
    "plcc": 85,
    "krcc": 68,
    "plcc_logistic": 64,
    "rmse": 60,
    "rmse_logistic": 60,
}


def results_table(results: Results) -> Table:
    """Make a table with one line for each target, selection and baseline: mean ± sd and 95 % intervals.

    The raw values of a line are those of all metrics, also of those that `levels_table` shows.
    """
    sentence = leak_sentence(results)
    leaks = f" ({sentence})" if sentence else ""
    columns = []
    for metric in table_metrics(results):
        columns.append(_metric_column(metric, RESULT_IMPORTANCE[metric]))
        if metric in INTERVAL_IMPORTANCE:
            columns.append(_interval_column(metric, INTERVAL_IMPORTANCE[metric]))
    split = "" if results.headline == ELSEWHERE else f", split {results.split}"
    title = f"{described(results)}{split}{leaks}"
    return _metrics_table(title, results, (*selections(results), *references(results)), columns)


def levels_table(results: Results) -> Table | None:
    """Make a table of the result and the baselines: ranking of generators, and of the images of one prompt.

    Metrics that are NaN in every line are left out; None if all are.
    """
    names = (results.headline, *shown_baselines(results))
    columns = []
    for number, metric in enumerate(LEVEL_METRICS):
        means = [summaries[name][metric].mean for summaries in results.summaries.values() for name in names]
        if np.isfinite(means).any():
            columns.append(_metric_column(metric, 90 - number))
    if not columns:
        return None
    return _metrics_table("ranking of generators, and of images within prompts", results, names, columns)


def _metrics_table(
    title: str,
    results: Results,
    names: Sequence[str],
    columns: Sequence[Column],
) -> Table:
    """Return a table with columns of metrics, and a line for each target and each name that it has."""
    rows = []
    for target, summaries in results.summaries.items():
        for name in names:
            if name in summaries:
                about = {"target": target, "metrics_of": name, "is_result": name == results.headline}
                rows.append({**about, **_metric_values(summaries[name])})
    selection = Column("selection", lambda row: label(results, row["metrics_of"]), wraps=True)
    return Table(
        (text_column("target"), selection, *columns),
        tuple(rows),
        title,
        style=lambda row: _style(results, row["metrics_of"]),
        section="target",
    )


def _metric_values(summaries: Mapping[str, Summary]) -> dict[str, float | int]:
    """Return mean, standard deviation and interval of every metric by name, and the number of repeats."""
    values: dict[str, float | int] = {}
    for metric in METRICS:
        summary = summaries[metric]
        low, high = summary.bounds
        values |= {metric: summary.mean, f"{metric}_sd": summary.sd}
        values |= {f"{metric}_low": low, f"{metric}_high": high, "repeats": len(summary.values)}
    return values


def _metric_column(metric: str, importance: int) -> Column:
    return Column(
        LABELS[metric],
        lambda row: metric_cell(row[metric], row[f"{metric}_sd"]),
        importance,
        is_number=True,
    )


def _interval_column(metric: str, importance: int) -> Column:
    return Column(
        f"{LABELS[metric]} 95 % interval",
        lambda row: interval_cell(row[f"{metric}_low"], row[f"{metric}_high"]),
        importance,
        is_number=True,
    )


def described(results: Results) -> str:
    """Describe a run in a few words: its method, head and rows."""
    rows = f"{results.benchmark} rows of {results.data}"
    if results.headline == ZERO_SHOT:
        return f"{results.estimator}, zero-shot, on {rows}"
    if results.headline == ELSEWHERE:
        head, _, run = results.estimator.rpartition(" of ")
        return f"run {digest_in(run) or run} (TIER-{results.method.upper()}, {head}), tested on {rows}"
    if results.chosen:
        method = "" if results.method == SEVERAL else f"TIER-{results.method.upper()}, "
        return f"{method}options chosen by a search, on {rows}"
    return f"TIER-{results.method.upper()}, {results.estimator} head, on {rows}"


def choices_table(results: Results) -> Table:
    """Make a table with what a search chose for each target and repeat, and its SRCC on both parts."""
    rows = []
    for target, chosen in results.chosen.items():
        selection = results.selection_srcc[target]
        test = results.summaries[target][results.headline]["srcc"]
        lines = zip(chosen, selection, test.values, strict=True)
        for repeat, (options, selected, tested) in enumerate(lines):
            srcc = {"selection_srcc": selected, "test_srcc": tested}
            rows.append({"target": target, "repeat": repeat, "options": options, **srcc})
    columns = (
        text_column("target"),
        count_column("repeat"),
        text_column("options", "chosen options", wraps=True),
        Column("selection SRCC", lambda row: metric_cell(row["selection_srcc"]), 80, is_number=True),
        Column("test SRCC", lambda row: metric_cell(row["test_srcc"]), 90, is_number=True),
    )
    return Table(columns, tuple(rows), section="target")


def _style(results: Results, name: str) -> str:
    if name == results.headline:
        return "bold"
    return "dim" if name in BASELINES or name in ("best_test", RATERS) else ""
