"""Scores of images on a terminal."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tier4k.extract.screen.table import Column, Row, Table, text_column
from tier4k.heads.metrics.conformal import LEVEL
from tier4k.heads.reporting.terminal.cells import interval_cell


def score_listing(scores: pd.DataFrame, most: int) -> Table:
    """List the first images, one a line, with score, interval and spread over the heads of every target.

    A score is never left out of a table.

    Args:
        scores: The table that `tier4k.heads.inference.scores.ScoreSummary.table` returns.
        most: Largest number of images to list.
    """
    targets = list(dict.fromkeys(scores["target"]))
    columns = [text_column("image")]
    for target in targets:
        columns += [
            Column(target, _score_of(target), is_number=True),
            Column(f"{target} interval", _interval_of(target), 80, is_number=True),
            Column(f"{target} spread", _spread_of(target), 60, is_number=True),
        ]
    rows = []
    for start in range(0, min(len(scores), most * len(targets)), len(targets)):
        lines = scores.iloc[start : start + len(targets)]
        rows.append({"image": lines["name"].iloc[0], **dict(zip(targets, lines.itertuples(), strict=True))})
    return Table(tuple(columns), tuple(rows))


def score_legend(scores: pd.DataFrame) -> str:
    """Explain the columns of `score_listing` beside the scores; "" where there are none.

    Args:
        scores: As for `score_listing`.
    """
    parts = []
    if scores["low"].notna().any():
        parts.append(f"interval: {100 * LEVEL:.0f} % prediction interval")
    if scores["spread"].notna().any():
        parts.append("spread: standard deviation of the heads' scores")
    return "; ".join(parts)


def _score_of(target: str) -> Callable[[Row], str]:
    return lambda row: f"{row[target].score:.3f}"


def _interval_of(target: str) -> Callable[[Row], str]:
    return lambda row: interval_cell(row[target].low, row[target].high, digits=2)


def _spread_of(target: str) -> Callable[[Row], str]:
    return lambda row: "" if np.isnan(row[target].spread) else f"{row[target].spread:.2f}"
