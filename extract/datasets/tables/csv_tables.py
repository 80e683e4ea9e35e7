"""Tables of text: fields with commas, semicolons or tabs between them."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from tier4k.cache.text import first_few
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.column_names import column_names
from tier4k.extract.datasets.tables.part import PartHeader
from tier4k.extract.datasets.tables.table_text import table_text

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

SHOWN_LINES = 10

STATED_SEPARATOR = re.compile("sep=(?P<separator>[,;\t])(?=[\r\n])", re.IGNORECASE)
"""The line that spreadsheet programs read before the header, as reports write it for them."""

HEAD_CHARACTERS = 2**20
"""The header is among so many first characters of a text."""


@dataclass(frozen=True)
class _Form:
    """How the fields of a table are separated.

    Attributes:
        separator: The character between two fields.
        has_spaces: Whether a space follows each separator.
    """

    separator: str
    has_spaces: bool = False

    def records(self, text: str, is_strict: bool = False) -> Iterator[list[str]]:
        """Return the fields of each record; blank records too.

        Raises:
            csv.Error: `is_strict`, and something other than a separator follows a quoted field.
        """
        return csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.separator,
            skipinitialspace=self.has_spaces,
            strict=is_strict,
        )

    def lines(self, text: str) -> list[int]:
        """Return the line that each record begins in, from 1, and the line after the last record."""
        with _fields_of_any_length(text):
            records: Any = self.records(text)
            return [1, *(records.line_num + 1 for _ in records)]


def csv_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the header of a table of text. The separator is that which gives the header most fields.

    Raises:
        DataError: The file is empty or not Unicode, or a column name occurs twice.
        OSError: The file cannot be read.
    """
    text = _text(path)
    separators = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
    if stated := STATED_SEPARATOR.match(text):
        separators = stated["separator"]
        text = text[stated.end() :]  # the line stays, as a blank one, so that lines are counted as before
    form = _form(text, separators)
    fields = _header(form, text)
    if not fields:
        raise DataError(f"{path} is empty: add a header line and rows")
    names = column_names(fields, str(path))
    return (PartHeader(path, names, partial(_rows, path, text, form, names)),)


def _text(path: Path) -> str:
    text = table_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{path} has null characters, the first in line {line}, so it is damaged or no text: save the "
            "table as CSV UTF-8"
        )
    return text


def _form(text: str, separators: str) -> _Form:
    """Return the form that gives the header most fields, the first of equal ones."""
    forms = [_Form(separator) for separator in separators]
    form = max(forms, key=lambda form: len(_header(form, text)))
    following = _header(form, text)[1:]
    has_spaces = bool(following) and all(name.startswith(" ") for name in following)
    return _Form(form.separator, has_spaces)


def _header(form: _Form, text: str) -> list[str]:
    """Return the first record that is not blank."""
    with _fields_of_any_length(text):
        for fields in form.records(text[:HEAD_CHARACTERS]):
            if any(fields):
                return fields
    return []


@contextmanager
def _fields_of_any_length(text: str) -> Iterator[None]:
    """Let the csv module read long fields, such as images in base64. Its limit holds for the process."""
    before = csv.field_size_limit(len(text) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(
    path: Path,
    text: str,
    form: _Form,
    names: Sequence[str],
) -> pd.DataFrame:
    """Return the rows of a table of text; the index counts all records but the first, blank ones included."""
    records = _records(path, text, form)
    width = len(names)
    filled = [number for number, fields in enumerate(records) if any(fields)]
    rows = [records[number] for number in filled[1:]]
    lengths = set(map(len, rows))
    if lengths and max(lengths) > width and not _ends_in_separators(rows, width):
        lines = form.lines(text)
        surplus = [lines[number] for number in filled if len(records[number]) > width]
        raise _surplus_error(path, form, width, surplus)
    if lengths != {width}:
        rows = [fields[:width] + [""] * (width - len(fields)) for fields in rows]
    numbers = [number - 1 for number in filled[1:]]
    return pd.DataFrame(rows, numbers, list(names), dtype=object)


def _ends_in_separators(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Return whether all rows have the same number of empty fields after the last column.

    Where only some have, a comma in another field may have pushed an empty one out of its column.
    """
    return len(set(map(len, rows))) == 1 and not any(any(fields[width:]) for fields in rows)


def _records(
    path: Path,
    text: str,
    form: _Form,
) -> list[list[str]]:
    """Return all records of a text.

    Raises:
        DataError: A quote is not closed, or closed in another line by accident.
    """
    with _fields_of_any_length(text):
        try:
            return list(form.records(text, is_strict=True))
        except csv.Error:
            _require_pairs_of_quotes(path, text, form)
            return list(form.records(text))


def _require_pairs_of_quotes(
    path: Path,
    text: str,
    form: _Form,
) -> None:
    """Require that no field reaches into the next line, in a text with something after a quoted field.

    Quotes inside a field, as in `"Stop" sign`, are no harm. But where they are not in pairs, a field may
    swallow the next rows. A line more shows whether the last field has an end.
    """
    for start, end in pairwise(form.lines(f"{text}\nend")):
        if end - start > 1:
            raise DataError(
                f"{path}: the quotes in line {start} are not in pairs, so that its field has no end: put the "
                'field in double quotes, and write a quote inside it as two ("")'
            )


def _surplus_error(
    path: Path,
    form: _Form,
    width: int,
    lines: Sequence[int],
) -> DataError:
    plural = "s" if len(lines) > 1 else ""
    mark = SEPARATORS[form.separator]
    return DataError(
        f"{path} has rows with more fields than its header, which has {width}, in line{plural} "
        f"{first_few(lines, SHOWN_LINES)}: put fields that contain {mark} in double quotes"
    )
