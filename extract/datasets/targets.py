"""Which columns of a table are scores, and why; which columns look like scores and are none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from tier4k.extract.datasets.ratings import is_about_ratings, spread_columns
from tier4k.extract.datasets.tables.cells import cells_of_missing_texts, empty_cells, numbers

# Columns of the manifest and of its files, which are never scores.
RESERVED_COLUMNS = frozenset(
    (
        "row",
        "line",
        "name",
        "group",
        "benchmark",
        "position",
        "image_key",
        "prompt_key",
        "image_prompt_key",
        "X",
    )
)


@dataclass(frozen=True)
class ScoreColumns:
    """The score columns of a table.

    Attributes:
        columns: {target: column}.
        reasons: {target: why its column is a score}.
        unused: {column: why it is no score, although it looks like one}.
    """

    columns: Mapping[str, str]
    reasons: Mapping[str, str]
    unused: Mapping[str, str]


def choose_targets(frame: pd.DataFrame, used: Collection[str]) -> ScoreColumns:
    """Find the score columns of a generic table.

    Args:
        frame: The table as read.
        used: Columns that have another meaning.
    """
    targets = []
    for column in frame.columns:
        saved_index = column.startswith("Unnamed:")
        if column in used or column in RESERVED_COLUMNS or saved_index or is_about_ratings(column):
            continue
        if _mostly_numbers(frame[column]):
            targets.append(column)
    spreads = spread_columns(targets, targets).values()
    chosen = {target: target for target in targets if target not in spreads}
    return ScoreColumns(chosen, dict.fromkeys(chosen, "numbers"), {})


def _mostly_numbers(cells: pd.Series) -> bool:
    # A column with a few bad cells is still a score column, so that the bad cells are reported. Empty cells
    # do not count, as a target may have scores of some rows only. Nor do texts such as "n/a": a column that
    # is mostly "n/a" would vanish without a word, where the cells should be reported.
    filled = cells[~empty_cells(cells) & ~cells_of_missing_texts(cells)]
    return len(filled) > 0 and bool(numbers(filled).notna().mean() > 0.5)
