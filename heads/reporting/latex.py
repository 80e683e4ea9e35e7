"""A LaTeX table of runs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tier4k.heads.data.fusion import STREAMS_OF
from tier4k.heads.reporting.columns import (
    ALWAYS,
    CONTEXT,
    PAPER_METRICS,
    baseline_rows,
    column_title,
    result_rows,
    varying_columns,
)
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.run_settings import ALL_STREAMS

MISSING = "--"

# What LaTeX prints as the character; a group ends a command's name.
LATEX = {character: rf"\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


def latex(frame: pd.DataFrame) -> str:
    """SRCC and PLCC of every run's result, one line for each configuration.

    A line has the columns in which the runs differ, and the targets side by side, each value with its 95 %
    interval; the best of runs with the same test rows is bold. The metadata baselines of the same rows follow
    below the runs. A comment above the table names method, benchmark and head where all runs are alike in
    them. The table needs the package booktabs.

    Args:
        frame: A tidy table.
    """
    rows = result_rows(frame)
    targets = list(rows["target"].unique())
    about = _columns_about_runs(rows)
    baselines = _baseline_lines(frame, targets, len(about))
    lines = [
        *_shared_values(rows, about),
        rf"\begin{{tabular}}{{{'l' * len(about)}{'c' * len(PAPER_METRICS) * len(targets)}}}",
        r"\toprule",
        *_head(about, targets),
        r"\midrule",
        *_run_lines(rows, targets, about),
    ]
    if baselines:
        lines += [r"\midrule", *baselines]
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def _columns_about_runs(rows: pd.DataFrame) -> list[str]:
    """Return the columns in which runs differ, and benchmarks with a mark such as the size of a leak.

    Of one run, these are the columns that a reader is always shown.
    """
    columns = varying_columns(rows)
    if len(rows["run"].unique()) == 1:
        return columns
    differing = []
    for name in columns:
        is_marked = name == "benchmark" and rows[name].str.endswith(")").any()
        if is_marked or len(rows[name].unique()) > 1:
            differing.append(name)
    return differing or columns


def _shared_values(rows: pd.DataFrame, about: Sequence[str]) -> list[str]:
    """Return a comment with the columns of `ALWAYS` that the table leaves out, as all runs are alike."""
    shared = []
    for name in ALWAYS:
        if name not in about:
            shared.append(f"{column_title(name)} {' '.join(str(rows[name].iloc[0]).split())}")
    return [f"% all runs: {', '.join(shared)}"] if shared else []


def _head(about: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Two lines: the targets over their columns, and the titles of all columns."""
    first = [""] * len(about)
    second = list(map(column_title, about))
    for target in targets:
        first.append(_spanning(len(PAPER_METRICS), "c", target))
        second += PAPER_METRICS.values()
    return [_line(first), _line(second)]


def _run_lines(
    rows: pd.DataFrame,
    targets: Sequence[str],
    about: Sequence[str],
) -> list[str]:
    """One line for each configuration; lines that differ in their streams alone stand together."""
    if "streams" in about:
        rows = rows.assign(streams=list(map(_streams, rows["method"], rows["streams"])))
    blocks: dict[tuple[Any, ...], list[str]] = {}
    for values, cells in _side_by_side(rows, about, targets):
        named = dict(zip(about, values, strict=True))
        named.pop("streams", None)
        block = tuple(named.values()) if "streams" in about else ()
        blocks.setdefault(block, []).append(_line([*map(_escaped, values), *cells]))
    lines: list[str] = []
    for block_lines in blocks.values():
        lines += [r"\addlinespace", *block_lines] if lines else block_lines
    return lines


def _streams(method: str, streams: str) -> str:
    """Name the streams, also where a run has all of its method: "text + image"."""
    names = streams.split("+")
    if streams == ALL_STREAMS and method in STREAMS_OF:
        names = list(STREAMS_OF[method])
    return " + ".join(name.replace("-", " ") for name in names)


def _baseline_lines(
    frame: pd.DataFrame,
    targets: Sequence[str],
    width: int,
) -> list[str]:
    """Lines of the baselines, whose description spans `width` columns."""
    rows = baseline_rows(frame)
    about = []
    for column in CONTEXT:
        varies = len(rows[column].unique()) > 1
        if varies or column == "benchmark":
            about.append(column)
    lines = []
    for values, cells in _side_by_side(rows, [*about, "metrics_of"], targets):
        *context, baseline = values
        title = ", ".join([LABELS[baseline], *map(str, context)])
        lines.append(_line([_spanning(width, "l", title), *cells]))
    return lines


def _side_by_side(
    rows: pd.DataFrame,
    about: Sequence[str],
    targets: Sequence[str],
) -> Iterator[tuple[tuple[Any, ...], list[str]]]:
    """Each combination of values of the columns in `about`, and its cells for each target and metric."""
    cells = [_cell(row) for _, row in rows.iterrows()]
    for values, group in rows.assign(cell=cells).groupby(list(about), sort=False):
        by_column = group.set_index(["target", "metric"])["cell"]
        line = []
        for target in targets:
            for metric in PAPER_METRICS:
                cell = by_column.get((target, metric), MISSING)
                line.append(cell)
        yield values, line


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _spanning(
    columns: int,
    align: str,
    text: object,
) -> str:
    return rf"\multicolumn{{{columns}}}{{{align}}}{{{_escaped(text)}}}"


def _cell(row: pd.Series) -> str:
    value = _short(row["mean"])
    if row["is_best"]:
        value = rf"\textbf{{{value}}}"
    if pd.isna(row["low"]):
        return value
    interval = f"[{_short(row['low'])}, {_short(row['high'])}]"
    return rf"{value} {{\scriptsize {interval}}}"


def _short(value: float) -> str:
    """Three decimals without a leading zero, as papers print correlations."""
    if pd.isna(value):
        return MISSING
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def _escaped(text: object) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(str(text).split()))


def plain_table(titles: Sequence[str], lines: Sequence[Sequence[str | float]]) -> str:
    """Any table as LaTeX with booktabs: numbers with three decimals in centred columns.

    Args:
        titles: Title of each column.
        lines: One cell for each column; a column of numbers has numbers in every line.
    """
    columns = (
        "".join("l" if isinstance(cell, str) else "c" for cell in lines[0]) if lines else "l" * len(titles)
    )
    body = []
    for cells in lines:
        body.append(_line([_escaped(cell) if isinstance(cell, str) else _short(cell) for cell in cells]))
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line(list(map(_escaped, titles))),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
