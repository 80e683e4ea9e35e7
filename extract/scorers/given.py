"""Scores that another program computed: a table with the name of an image and its score in each line."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from tier4k.cache.text import first_few, nearest
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.tables.cells import cells_of_missing_texts, empty_cells, numbers, shown_cell
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.tables.read import READERS, part_headers, read_part

NAME_COLUMNS = ("image", "name", "path", *LAYOUTS["table"].common_names["name"])

SHOWN = 3  # examples in a message

AMBIGUOUS = -2  # in place of the number of a row
NO_ROW = -1


@dataclass(frozen=True)
class ScoreTable:
    """The names of images and their scores in a file.

    Attributes:
        path: The file.
        name_column, score_column: Columns with the names of the images and with the scores.
        names: Names or paths of the images, as written (L,).
        scores: Their scores (L,) float64, NaN for an empty cell.
        lines: Numbers of the lines in the file, from 1 (L,).
    """

    path: Path
    name_column: str
    score_column: str
    names: tuple[str, ...]
    scores: np.ndarray
    lines: tuple[int, ...]


def read_score_table(
    path: Path,
    column: str | None = None,
    usual_columns: Sequence[str] = (),
    only_usual: bool = False,
) -> ScoreTable:
    """Read scores from a .csv, .tsv, .xlsx, .parquet, .json or .jsonl file.

    Args:
        path: The file. Of a workbook, the first visible sheet is read.
        column: Name of the column with the scores. None takes the first of `usual_columns` that the file has,
            else the only column of numbers.
        usual_columns: Names of columns to prefer, in any case.
        only_usual: Whether no column of another name is taken where `column` is None.

    Raises:
        DataError: The file cannot be read, its columns are not clear, or a score is no number.
    """
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path} is no table of scores: pass a file that ends in {', '.join(READERS)}")
    visible = [header for header in part_headers(path) if not header.is_hidden and not header.defect]
    if not visible:
        raise DataError(f"{path} has no sheet that can be read: pass a table of images and scores")
    part = read_part(visible[0])
    name_column = _name_column(part)
    score_column = _score_column(part, name_column, column, usual_columns, only_usual)
    first_line = 1 + part.header_lines
    return ScoreTable(
        path,
        name_column,
        score_column,
        tuple(str(cell).strip() for cell in part.frame[name_column]),
        _scores(part, score_column),
        tuple(first_line + int(row) for row in part.frame.index),
    )


def _name_column(part: TablePart) -> str:
    """Return the column with the names of the images: by its name, else the only column without numbers."""
    by_lower = {str(name).lower().replace(" ", "_"): str(name) for name in part.frame.columns}
    for name in NAME_COLUMNS:
        if name in by_lower:
            return by_lower[name]
    text_columns = [name for name in part.frame.columns if numbers(part.frame[name]).isna().all()]
    if len(text_columns) == 1:
        return str(text_columns[0])
    raise DataError(
        f"{part.path} has the columns {', '.join(part.frame.columns)}, and none of them is known to contain "
        f"the names of images: call the column of names {' or '.join(NAME_COLUMNS[:2])}"
    )


def _score_column(
    part: TablePart,
    name_column: str,
    column: str | None,
    usual_columns: Sequence[str],
    only_usual: bool,
) -> str:
    frame = part.frame
    candidates = [str(name) for name in frame.columns if name != name_column]
    if column is not None:
        if column not in candidates:
            raise DataError(
                f"{part.path} has no column {column!r}{nearest(column, candidates)} of scores: pass "
                f"--score-column with one of {', '.join(candidates)}"
            )
        return column
    for name in usual_columns:
        same = [candidate for candidate in candidates if candidate.lower() == name.lower()]
        if name in same or len(same) == 1:
            return name if name in same else same[0]
        if same:
            raise DataError(
                f"{part.path} has the columns {' and '.join(same)}, and each may hold the scores: call only "
                f"one of them {name}"
            )
    if only_usual:
        wanted = " or ".join(dict.fromkeys(usual_columns))
        raise DataError(
            f"{part.path} has no column {wanted} of scores, but {', '.join(candidates)}: rename one"
        )
    number_columns = [name for name in candidates if numbers(frame[name]).notna().any()]
    if len(number_columns) == 1:
        return number_columns[0]
    problem = "no column of numbers"
    if number_columns:
        problem = f"several columns of numbers, {', '.join(number_columns)}"
    raise DataError(f"{part.path} has {problem}: name the column of the scores with --score-column")


def _scores(part: TablePart, column: str) -> np.ndarray:
    cells = part.frame[column]
    scores = numbers(cells).to_numpy(float)
    is_text = np.isnan(scores) & ~empty_cells(cells) & ~cells_of_missing_texts(cells)
    wrong = np.flatnonzero(is_text | (np.abs(scores) > np.finfo(np.float32).max))
    if len(wrong):
        lines = [1 + part.header_lines + int(row) for row in part.frame.index[wrong]]
        listed = [
            f"line {line}: {shown_cell(cell)}" for line, cell in zip(lines, cells.iloc[wrong], strict=True)
        ]
        raise DataError(
            f"{part.path}, column {column}: scores must be finite numbers of float32, which these cells are "
            f"not ({first_few(listed, SHOWN)}): correct them, or leave them empty"
        )
    return scores


@dataclass(frozen=True)
class JoinedScores:
    """The scores of N rows of a data set.

    Attributes:
        scores: Scores (N,) float32, NaN for a row without one.
        missing: Names of the rows without a score.
        extra: Names in the table that no row has.
    """

    scores: np.ndarray
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def problems(self) -> pd.DataFrame:
        """Return all missing and extra names, with the columns name and problem."""
        problems = ["no score"] * len(self.missing) + ["no such image in the data"] * len(self.extra)
        return pd.DataFrame({"name": [*self.missing, *self.extra], "problem": problems})


def join_scores(
    table: ScoreTable,
    names: Sequence[str],
    places: Sequence[str],
    pairs: np.ndarray,
) -> JoinedScores:
    """Find the score of each row of a data set by the name of its image.

    A line belongs to the row with exactly its name. Otherwise it belongs to the only row whose image has its
    file name, and otherwise to the only row that has its file name without the extension; the folders of
    line and row must not contradict each other.

    Args:
        table: The scores.
        names: Names of the images (N,), distinct.
        places: Places of the images (N,).
        pairs: Keys (N, 32) of the pairs of image and prompt. Rows of one pair share their score.

    Raises:
        DataError: A line may belong to several rows, a row has several scores, or no row has a score.
    """
    row_of_line = _rows_of_lines(table, names, places)
    values = np.full(len(names), np.nan, np.float32)
    line_of: dict[bytes, int] = {}
    for line, row in enumerate(row_of_line.tolist()):
        score = np.float32(table.scores[line])
        if row < 0 or np.isnan(score):
            continue
        first = line_of.setdefault(pairs[row].tobytes(), line)
        if np.float32(table.scores[first]) != score:
            raise _two_scores(table, first, line)
        values[row] = score
    for row in np.flatnonzero(np.isnan(values)).tolist():
        if (shared := line_of.get(pairs[row].tobytes())) is not None:
            values[row] = table.scores[shared]
    if np.isnan(values).all():
        raise DataError(
            f"{table.path}, column {table.name_column}: no line names an image of the data, which has "
            f"{first_few(names, SHOWN)}; the lines have {first_few(table.names, SHOWN)}: use the names of "
            "the data's table"
        )
    missing = tuple(names[row] for row in np.flatnonzero(np.isnan(values)).tolist())
    extra = tuple(table.names[line] for line in np.flatnonzero(row_of_line == NO_ROW).tolist())
    return JoinedScores(values, missing, extra)


def _two_scores(
    table: ScoreTable,
    first: int,
    second: int,
) -> DataError:
    lines = [
        f"line {table.lines[line]} ({table.names[line]}) has {table.scores[line]:g}"
        for line in (first, second)
    ]
    return DataError(
        f"{table.path}, column {table.score_column}: {' and '.join(lines)}, but both lines are of the same "
        "image and prompt: keep one of them"
    )


def _rows_of_lines(
    table: ScoreTable,
    names: Sequence[str],
    places: Sequence[str],
) -> np.ndarray:
    """Return the number of each line's row (L,), `NO_ROW` for a line without one."""
    row_of_name = {name: row for row, name in enumerate(names)}
    by_file = _rows_by(names, with_suffix=True)
    by_stem = _rows_by(names, with_suffix=False)
    rows = np.full(len(table.names), NO_ROW)
    ambiguous = []
    for line, written in enumerate(table.names):
        row = row_of_name.get(written, NO_ROW)
        # A name without its extension may have a point: "SD1.5_7" is the stem of SD1.5_7.png.
        for rows_by, with_suffix in ((by_file, True), (by_stem, True), (by_stem, False)):
            if row == NO_ROW:
                candidates = rows_by.get(_file_name(written, with_suffix), [])
                row = _only_row(written, candidates, names, places)
        if row == AMBIGUOUS:
            ambiguous.append(f"line {table.lines[line]} ({written})")
        rows[line] = row
    if ambiguous:
        raise DataError(
            f"{table.path}, column {table.name_column}: {first_few(ambiguous, SHOWN)} may name several "
            "images of the data: write their names as the table of the data does, for example "
            f"{names[0]}"
        )
    return rows


def _rows_by(names: Sequence[str], with_suffix: bool) -> dict[str, list[int]]:
    rows = defaultdict(list)
    for row, name in enumerate(names):
        rows[_file_name(name, with_suffix)].append(row)
    return rows


def _only_row(
    written: str,
    candidates: Sequence[int],
    names: Sequence[str],
    places: Sequence[str],
) -> int:
    """Return the only candidate whose folders do not contradict those of a written path."""
    folders = _folders(written)
    fitting = [
        row
        for row in candidates
        if _ends_with(_folders(places[row]), folders) or _ends_with(folders, _folders(names[row]))
    ]
    if len(fitting) > 1:
        return AMBIGUOUS
    return fitting[0] if fitting else NO_ROW


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def _file_name(path: str, with_suffix: bool) -> str:
    name = (_parts(path) or ("",))[-1]
    return name if with_suffix else PurePosixPath(name).stem


def _folders(path: str) -> tuple[str, ...]:
    return _parts(path)[:-1]


def _ends_with(folders: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return len(end) <= len(folders) and folders[len(folders) - len(end) :] == end
