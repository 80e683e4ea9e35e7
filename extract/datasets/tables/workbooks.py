"""Workbooks (.xlsx): one part for each sheet."""

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd

from tier4k.cache.text import shortened
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.cells import Formula
from tier4k.extract.datasets.tables.column_names import UNNAMED, column_names
from tier4k.extract.datasets.tables.part import PartHeader

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.cell.read_only import ReadOnlyCell
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

# The form of files of old programs (.xls), and of encrypted workbooks.
OLD_FORM = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

ENCRYPTED = "EncryptedPackage".encode("utf-16-le")

FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")

CHUNK = 2**20

LONGEST_TAG = 64

LARGEST_CONTENT = 2**28
"""Bytes of all members of a workbook. One with a million rows of ten columns has fewer."""

MOST_ROWS = 2**20
"""Rows that a spreadsheet program can write."""

MOST_CELLS = 20_000_000
"""Cells of a sheet, counted in each row up to the last filled one."""


def workbook_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the headers of the sheets of a workbook that have cells. Sheets of charts are no tables.

    Raises:
        DataError: The file is damaged, encrypted, empty or no workbook.
        OSError: The file cannot be read.
    """
    book = _Book(path)
    headers = []
    for name, is_hidden in book.sheets():
        cells = book.header(name)
        if not cells:
            continue
        defect = ""
        columns: tuple[str, ...] = ()
        try:
            columns = column_names(cells, "it")
        except DataError as error:  # a sheet with remarks is no reason to refuse the others
            defect = str(error)
        rows = partial(_frame, book, name, columns)
        headers.append(PartHeader(path, columns, rows, name, is_hidden, defect=defect))
    if not headers:
        raise DataError(f"{path} is empty: add a header line and rows")
    return tuple(headers)


def visible_rows(path: Path) -> dict[str, list[list[object]]]:
    """Return the cells of each row that is not blank, header or not, by the name of the visible sheet.

    Raises:
        DataError: The file is damaged, encrypted or no workbook.
        OSError: The file cannot be read.
    """
    book = _Book(path)
    rows = {}
    for name, is_hidden in book.sheets():
        if not is_hidden:
            rows[name] = [cells for _, cells in book.rows(name)]
    return rows


class _Book:
    """A workbook whose file is read once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()
        self._require_form()
        self._book = self._open(data_only=True)

    def _require_form(self) -> None:
        if self._data.startswith(OLD_FORM):
            if ENCRYPTED in self._data:
                raise DataError(f"{self._path} is encrypted: save the workbook without a password")
            raise DataError(
                f"{self._path} is a workbook of an old form (.xls): save it as .xlsx in a spreadsheet program"
            )

    def _open(self, data_only: bool) -> "Workbook":
        from openpyxl import load_workbook

        with _damage_explained(self._path):
            self._require_size()
            return load_workbook(
                io.BytesIO(self._data),
                read_only=True,
                data_only=data_only,
                keep_links=False,
            )

    def _require_size(self) -> None:
        """Require that the members are no larger than tables are. None is read beyond its stated size.

        Raises:
            DataError: The members are too large.
        """
        with zipfile.ZipFile(io.BytesIO(self._data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_CONTENT:
            raise DataError(
                f"{self._path} would take {size / 1e6:,.0f} MB of memory, more than the "
                f"{LARGEST_CONTENT / 1e6:,.0f} MB that are allowed: save the table as .csv or .parquet"
            )

    def sheets(self) -> list[tuple[str, bool]]:
        """Return the name of each sheet with cells, and whether it is hidden."""
        return [(sheet.title, sheet.sheet_state != "visible") for sheet in self._book.worksheets]

    def header(self, name: str) -> list[object]:
        """Return the cells of the first row of a sheet that is not blank; none if all rows are."""
        with _damage_explained(self._path):
            for number, cells in enumerate(self._cells(name)):
                self._require_within_limits(name, number, len(cells))
                if filled := _filled(cells):
                    return filled
        return []

    def rows(self, name: str) -> list[tuple[int, list[object]]]:
        """Return the number of each row that is not blank, from 0, and its cells up to the last filled one.

        A cell with a formula whose value is not stored is a `Formula`.
        """
        has_formulas = self._has_formulas()
        found = []
        count = 0
        with _damage_explained(self._path):
            rows = self._cells_with_formulas(name) if has_formulas else self._cells(name)
            for number, row in enumerate(rows):
                cells = _filled(row)
                count += len(cells)
                self._require_within_limits(name, number, count)
                if cells:
                    found.append((number, cells))
        return found

    def _require_within_limits(
        self,
        name: str,
        number: int,
        count: int,
    ) -> None:
        if number >= MOST_ROWS or count > MOST_CELLS:
            raise DataError(
                f"{self._path}, sheet {name}, has more than {MOST_ROWS:,} rows, or more than {MOST_CELLS:,} "
                "cells up to the last filled one of each row: delete the cells far below or beside the table"
            )

    def _cells(self, name: str) -> Iterator[Sequence[object]]:
        return _sheet(self._book, name).iter_rows(values_only=True)

    def _cells_with_formulas(self, name: str) -> Iterator[Sequence[object]]:
        """Yield the rows with the formulas of the cells without a value, which a second reading finds."""
        formulas = _sheet(self._open(data_only=False), name).iter_rows(values_only=True)
        for row, own in zip(_sheet(self._book, name).iter_rows(), formulas, strict=True):
            yield [_value(*pair) for pair in zip(row, own, strict=True)]

    def _has_formulas(self) -> bool:
        """Return whether a cell of any sheet has a formula."""
        with _damage_explained(self._path), zipfile.ZipFile(io.BytesIO(self._data)) as archive:
            for name in archive.namelist():
                if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                    with archive.open(name) as sheet:
                        if _contains_formula(sheet):
                            return True
        return False


def _contains_formula(sheet: IO[bytes]) -> bool:
    before = b""
    while chunk := sheet.read(CHUNK):
        if FORMULA.search(before + chunk):
            return True
        before = chunk[-LONGEST_TAG:]
    return False


def _sheet(book: "Workbook", name: str) -> "ReadOnlyWorksheet":
    sheet = book[name]
    sheet.reset_dimensions()  # rows are then not padded to the width that the file states
    return sheet


def _filled(cells: Sequence[object]) -> list[object]:
    """Return the cells up to the last one that is filled; a whole number, such as 3.0, as an int."""
    end = len(cells)
    while end and cells[end - 1] in (None, ""):
        end -= 1
    return [int(cell) if type(cell) is float and cell.is_integer() else cell for cell in cells[:end]]


def _value(cell: "ReadOnlyCell", formula: object) -> object:
    # The type "str" is that of a formula whose stored value is the empty text.
    if cell.value is None and formula is not None and cell.data_type != "str":
        return Formula(getattr(formula, "text", formula))
    return cell.value


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    """Turn errors of openpyxl into ours, and keep its warnings about styles to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is no workbook, or it is damaged ({shortened(error)}): save it again as .xlsx in a "
            "spreadsheet program; a table of text must end in .csv or .tsv"
        ) from error
    except Exception as error:  # a damaged workbook makes openpyxl raise errors of any type
        raise DataError(
            f"{path} cannot be read as .xlsx ({shortened(error)}): save it again as .xlsx in a spreadsheet "
            "program, without a password"
        ) from error


def _frame(
    book: _Book,
    sheet: str,
    names: Sequence[str],
) -> pd.DataFrame:
    """Return the rows of a sheet; the index counts all its rows but the first, blank ones included."""
    _, *rows = book.rows(sheet)
    cells = {}
    for position in _used_positions(rows, len(names)):
        name = names[position] if position < len(names) else f"{UNNAMED}{position}"
        column = [row[position] if position < len(row) else None for _, row in rows]
        cells[name] = pd.Series(column, dtype=object)
    return pd.DataFrame(cells).set_axis([number - 1 for number, _ in rows])


def _used_positions(rows: Sequence[tuple[int, list[object]]], width: int) -> list[int]:
    """Return the positions of columns with a name, and of others with a filled cell."""
    beyond = set()
    for _, row in rows:
        for position in range(width, len(row)):
            if row[position] not in (None, ""):
                beyond.add(position)
    return [*range(width), *sorted(beyond)]
