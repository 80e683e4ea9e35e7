"""Which columns of a table are scores, and why; which columns look like scores and are none."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.manifest import COLUMNS
from tier4k.extract.datasets.ratings import SPREAD_WORDS, is_about_ratings, spread_columns
from tier4k.extract.datasets.source import ROW_COLUMNS
from tier4k.extract.datasets.tables.cells import (
    Formula,
    cells_of_missing_texts,
    empty_cells,
    read_numbers,
    shown_cell,
)
from tier4k.extract.datasets.tables.column_names import UNNAMED

# Columns of the program's own tables, whose names no score can have; X is that of a fused matrix.
OWN_COLUMNS = frozenset((*COLUMNS, *ROW_COLUMNS, "X"))

# Names, or last words of names, of numbers that are properties of an image, of its file or of its row.
RESERVED_WORDS = frozenset(
    (
        "id",
        "ids",
        "idx",
        "index",
        "no",
        "number",
        "seed",
        "width",
        "height",
        "size",
        "resolution",
        "steps",
        "fold",
        "split",
        "year",
        "date",
        "time",
        "timestamp",
    )
)

SPREAD_WORD = f"({'|'.join(SPREAD_WORDS)}|sem)"
SPREAD_NAME = re.compile(rf"{SPREAD_WORD}[0-9]*|{SPREAD_WORD}[\W_].*|.*[\W_]{SPREAD_WORD}")

SCORE_WORDS = "score|rating|quality|align|authentic|correspond|aesthetic|fidelity"
SCORE_NAME = re.compile(rf"(.*[\W_])?[dz]?mosz?([\W_0-9].*)?|.*({SCORE_WORDS}).*")

LEAST_SHARE_OF_NUMBERS = 0.2
"""Share of the filled cells that are numbers, from which a column looks like a score."""

LEAST_SHARE_OF_ROWS = 0.1
"""Share of the rows with a number, below which a column is mostly empty."""


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
    """Find the score columns of a generic table: those of numbers that no name gives another meaning.

    Args:
        frame: The table as read; the index is the line of each row in its file.
        used: Columns that have another meaning.
    """
    reasons, unused = {}, {}
    for column in frame.columns:
        if column in used or is_about_ratings(column):
            continue
        content = _Content(frame[column])
        if not (content.looks_like_scores or SCORE_NAME.fullmatch(column.lower())):
            continue
        if column.startswith(UNNAMED) and content.is_row_number:  # the saved index of a table
            continue
        problem = _problem_of_name(column) or content.problem
        if problem:
            unused[column] = problem
        else:
            reasons[column] = content.description
    for spread in spread_columns(reasons, frame.columns).values():
        unused.pop(spread, None)
    return ScoreColumns({target: target for target in reasons}, reasons, _with_remedies(unused))


def require_free_names(targets: Iterable[str]) -> None:
    """Require that targets which a user names have not the names of the program's own columns.

    Raises:
        DataError: One has.
    """
    for target in targets:
        if target in OWN_COLUMNS or is_about_ratings(target):
            raise DataError(
                f"--columns: no score can be called {target!r}, as tier4k has a column of this name: give it "
                f"another one, as in mos.score={target}"
            )


class _Content:
    """What the cells of a column are.

    Empty cells, and texts such as "n/a", do not say whether a column has scores: a target may have scores of
    some rows only.
    """

    def __init__(self, cells: pd.Series) -> None:
        self._cells = cells
        self._read = read_numbers(cells)
        self._numbers = int(self._read.all.notna().sum())
        others = cells[self._read.all.isna()]
        self._bad = others[~empty_cells(others) & ~cells_of_missing_texts(others)]
        self._filled = self._numbers + len(self._bad)

    @property
    def looks_like_scores(self) -> bool:
        """Whether a fifth of the filled cells are numbers, or one is a formula."""
        if not self._filled:
            return False
        return self._numbers >= LEAST_SHARE_OF_NUMBERS * self._filled or self._formulas > 0

    @property
    def is_row_number(self) -> bool:
        """Whether the cells count the rows, from 0 or 1."""
        steps = self._read.all.diff().iloc[1:]
        return self._read.all.iloc[0] in (0, 1) and bool((steps == 1).all())

    @property
    def _formulas(self) -> int:
        return sum(isinstance(cell, Formula) for cell in self._bad)

    @property
    def description(self) -> str:
        """Where the numbers are and how they are written."""
        form = f", {self._read.form}" if self._read.form else ""
        return f"numbers in {self._numbers:,} of {len(self._cells):,} rows{form}"

    @property
    def problem(self) -> str | None:
        """Why these are no scores; None if they are."""
        # A column with a few bad cells is still one of scores, so that the bad cells are reported.
        if self._numbers > self._filled / 2:
            if self._numbers < LEAST_SHARE_OF_ROWS * len(self._cells):
                return f"it is mostly empty: {self.description}"
            return None
        if self._formulas:
            return (
                f"{self._formulas:,} of its cells are formulas whose values the workbook does not contain: "
                "save the workbook in a spreadsheet program"
            )
        if not self._filled:
            return "it has no numbers"
        line, value = next(self._bad.items())
        return f"it is not mostly numbers: {shown_cell(value)} in line {line}"


def _problem_of_name(column: str) -> str | None:
    """Return why a column of numbers has no scores, by its name; None if its name says nothing."""
    if column in OWN_COLUMNS:
        return "tier4k has a column of this name"
    if column.startswith(UNNAMED):
        return "it has no name"
    words = re.split(r"[\W_]+", column.lower())
    if words[-1] in RESERVED_WORDS:
        return "reserved name"
    if SPREAD_NAME.fullmatch(column.lower()):
        return "by its name it has standard deviations"
    return None


def _with_remedies(unused: Mapping[str, str]) -> dict[str, str]:
    remedies = {}
    for column, reason in unused.items():
        target = f"mos.score={column}" if column in OWN_COLUMNS else f"mos={column}"
        remedies[column] = f"{reason} (to use it all the same: --columns {target})"
    return remedies
