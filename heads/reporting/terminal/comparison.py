"""Comparisons of runs on a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.text import Text

from tier4k.extract.screen.table import Column, Row, Table, text_column
from tier4k.heads.reporting.comparison import SIGNIFICANT, Comparison, comparison_frame
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.terminal.cells import metric_cell
from tier4k.heads.reporting.terminal.notes import ESTIMAND, ESTIMAND_UNFITTED


def comparison_table(
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    runs: Sequence[Path],
) -> Table:
    """Make a table with one line for each target and pair of runs.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
        runs: Folders of the runs.
    """
    rows = []
    for comparison, line in zip(
        comparisons, comparison_frame(comparisons, runs).to_dict("records"), strict=True
    ):
        rows.append({"runs": _pair(comparison, names), **line})
    metric = LABELS[comparisons[0].metric]
    columns = [
        text_column("target"),
        text_column("runs"),
        Column(f"{metric} of each", _means_cell, 80, is_number=True),
        Column("difference", lambda row: f"{row['difference']:+.3f}", is_number=True),
        Column("95 % interval", lambda row: _signed_interval(row["low"], row["high"]), 90, is_number=True),
        Column("p", lambda row: metric_cell(row["p"]), 70, is_number=True),
        Column("p (Holm)", lambda row: metric_cell(row["p_holm"]), is_number=True),
    ]
    if _any_without_interval(comparisons):
        columns.append(Column("fitted heads", _fitted_heads_cell, 60, is_number=True))
    return Table(tuple(columns), tuple(rows), style=_significance_style)


def comparison_notes(comparisons: Sequence[Comparison], names: Sequence[str]) -> Iterator[Text]:
    """Explain the intervals and p-values of a comparison table.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
    """
    fitted = any(comparison.fitted for comparison in comparisons)
    estimand = ESTIMAND if fitted else f"{ESTIMAND_UNFITTED}."
    yield Text(
        f"p and interval are for the difference in {estimand} Bold: p (Holm) under {SIGNIFICANT}.", "dim"
    )
    pairs_of_reason: dict[str, list[str]] = {}
    for comparison in comparisons:
        if comparison.interval_reason:
            pair = f"{comparison.target} {_pair(comparison, names)}"
            pairs_of_reason.setdefault(comparison.interval_reason, []).append(pair)
    for reason, pairs in pairs_of_reason.items():
        yield Text(f"no interval and no p, as {reason}: {', '.join(pairs)}", "yellow")
    if _any_without_interval(comparisons):
        yield Text("fitted heads: 95 % interval for these heads alone, by bootstrap over test prompts", "dim")


def _any_without_interval(comparisons: Sequence[Comparison]) -> bool:
    return any(comparison.interval_reason for comparison in comparisons)


def _pair(comparison: Comparison, names: Sequence[str]) -> str:
    return f"{names[comparison.first]} - {names[comparison.second]}"


def _means_cell(row: Row) -> str:
    return f"{row['mean_first']:.3f} and {row['mean_second']:.3f}"


def _fitted_heads_cell(row: Row) -> str:
    return _signed_interval(row["low_fitted_heads"], row["high_fitted_heads"])


def _significance_style(row: Row) -> str:
    return "bold" if row["p_holm"] < SIGNIFICANT else ""


def _signed_interval(low: float, high: float) -> str:
    return "none" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
