"""A LaTeX table of runs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tier4k.heads.reporting.terminal import LABELS
from tier4k.heads.reporting.tidy import CONTEXT, PAPER_METRICS, _floors, _results, _titled, _varying


def latex(frame: pd.DataFrame) -> str:
    """SRCC and PLCC of every run's result, one line for each configuration, the best of each column and benchmark in bold.

    A line holds the targets side by side, each figure with its 95 % interval; it needs the package booktabs. Below the runs stand the
    metadata floors of their rows.
    """
    shown = _results(frame)
    columns = [(target, metric) for target in shown["target"].unique() for metric in PAPER_METRICS]
    varying = _varying(shown)
    lines = [
        " & ".join([*map(_escaped, about), *cells]) + r" \\"
        for about, cells in _side_by_side(shown, varying, columns)
    ]
    floors = _floors(frame)
    of_rows = [name for name in CONTEXT if name == "benchmark" or len(floors[name].unique()) > 1]
    below = [
        rf"\multicolumn{{{len(varying)}}}{{l}}{{{_escaped(', '.join([LABELS[floor], *map(str, about)]))}}} & {' & '.join(cells)} \\"
        for (*about, floor), cells in _side_by_side(floors, [*of_rows, "figures_of"], columns)
    ]
    targets = [
        rf"\multicolumn{{{len(PAPER_METRICS)}}}{{c}}{{{_escaped(target)}}}"
        for target in shown["target"].unique()
    ]
    head = [" & ".join([*[""] * len(varying), *targets]) + r" \\"]
    head.append(
        " & ".join([*map(_titled, varying), *(PAPER_METRICS[metric] for _, metric in columns)]) + r" \\"
    )
    align = "l" * len(varying) + "c" * len(columns)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *head,
            r"\midrule",
            *lines,
            *([r"\midrule", *below] if below else []),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _side_by_side(
    shown: pd.DataFrame, about: Sequence[str], columns: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[Any, ...], list[str]]]:
    """Lines of a LaTeX table: what each is about, and its cells for each target and metric."""
    cells = shown.assign(cell=[_cell(row) for _, row in shown.iterrows()])
    for values, group in cells.groupby(list(about), sort=False):
        figures = group.set_index(["target", "metric"])["cell"]
        yield values, [figures.get(column, "--") for column in columns]


def _cell(row: pd.Series) -> str:
    figure = _short(row["mean"])
    figure = rf"\textbf{{{figure}}}" if row["is_best"] else figure
    return (
        figure
        if row["low"] != row["low"]
        else rf"{figure} {{\scriptsize [{_short(row['low'])}, {_short(row['high'])}]}}"
    )


def _short(value: float) -> str:
    return "--" if value != value else re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def _escaped(text: object) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", str(text).replace("\\", r"\textbackslash "))
