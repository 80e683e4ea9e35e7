"""Tables of JSON: a list of objects (.json), or one object a line (.jsonl)."""

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd

from tier4k.cache.text import first_few
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.column_names import column_names
from tier4k.extract.datasets.tables.part import PartHeader
from tier4k.extract.datasets.tables.table_text import table_text

SHOWN_LINES = 5

FORM = "a list of objects, one for each row"


class _DamagedRowError(ValueError):
    """The text of one row is no object, or has a name twice."""


def json_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the header of a list of objects. The columns are the names in them, in the order of the rows.

    Raises:
        DataError: The file is damaged, or JSON of another form, such as the results of a run.
        OSError: The file cannot be read.
    """
    try:
        content = json.loads(table_text(path), object_pairs_hook=_object)
    except _DamagedRowError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as .json ({error}): correct it; with one object a line, its name must "
            "end in .jsonl"
        ) from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path} is no table, as it is not {FORM}")
    return _headers(path, content, range(len(content)))


def json_lines_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the header of a file with one object a line.

    Raises:
        DataError: The file is damaged; the message names the lines.
        OSError: The file cannot be read.
    """
    rows, numbers, damaged = [], [], []
    for number, line in enumerate(table_text(path).split("\n")):
        if not line.strip():
            continue
        try:
            rows.append(_row(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            damaged.append(f"line {number + 1} ({error})")
    if damaged:
        raise DataError(
            f"{path} must have one JSON object a line, but has not in {first_few(damaged, SHOWN_LINES)}: "
            "correct them"
        )
    return _headers(path, rows, numbers)


def _row(line: str) -> dict[str, object]:
    row = json.loads(line, object_pairs_hook=_object)
    if not isinstance(row, dict):
        raise _DamagedRowError("no object")
    return row


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object whose names are those of columns."""
    names = _names(tuple(name for name, _ in pairs))
    return dict(zip(names, (value for _, value in pairs), strict=True))


@lru_cache(maxsize=100)
def _names(names: Sequence[str]) -> tuple[str, ...]:
    try:
        return column_names(names, "an object")
    except DataError as error:
        raise _DamagedRowError(str(error)) from None


def _headers(
    path: Path,
    rows: Sequence[dict[str, object]],
    numbers: Sequence[int],
) -> tuple[PartHeader, ...]:
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row)
    if not columns:
        raise DataError(f"{path} is empty: it must be {FORM}")
    names = tuple(columns)
    return (PartHeader(path, names, partial(_frame, rows, numbers, names), header_lines=0),)


def _frame(
    rows: Sequence[dict[str, object]],
    numbers: Sequence[int],
    names: Sequence[str],
) -> pd.DataFrame:
    columns = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        columns[name] = pd.Series(cells, list(numbers), dtype=object)
    return pd.DataFrame(columns)
