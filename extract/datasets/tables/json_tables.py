"""Tables of JSON: a list of objects (.json), or one object a line (.jsonl)."""

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd

from tier4k.cache.text import read_text
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.column_names import column_names
from tier4k.extract.datasets.tables.part import PartHeader

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
        content = json.loads(_text(path), object_pairs_hook=_object)
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
    for number, line in enumerate(_text(path).split("\n")):
        if not line.strip():
            continue
        try:
            rows.append(_row(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            damaged.append(f"line {number + 1} ({error})")
    if damaged:
        shown = ", ".join(damaged[:SHOWN_LINES])
        rest = len(damaged) - SHOWN_LINES
        more = f" and {rest:,} more" if rest > 0 else ""
        raise DataError(
            f"{path} must have one JSON object a line, but has not in {shown}{more}: correct them"
        )
    return _headers(path, rows, numbers)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error


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
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError(f"{path} is empty: it must be {FORM}")
    return (PartHeader(path, names, partial(_frame, rows, numbers, names), header_lines=0),)


def _frame(
    rows: Sequence[dict[str, object]],
    numbers: Sequence[int],
    names: Sequence[str],
) -> pd.DataFrame:
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    return pd.DataFrame(columns).set_axis(list(numbers))
