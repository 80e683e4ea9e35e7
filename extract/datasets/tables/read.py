"""Read table files, each by its suffix."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.csv_tables import csv_headers
from tier4k.extract.datasets.tables.json_tables import json_headers, json_lines_headers
from tier4k.extract.datasets.tables.parquet_tables import parquet_headers
from tier4k.extract.datasets.tables.part import PartHeader, TablePart
from tier4k.extract.datasets.tables.workbooks import workbook_headers

READERS: Mapping[str, Callable[[Path], tuple[PartHeader, ...]]] = {
    ".csv": csv_headers,
    ".tsv": csv_headers,
    ".xlsx": workbook_headers,
    ".parquet": parquet_headers,
    ".json": json_headers,
    ".jsonl": json_lines_headers,
}
"""{suffix, one of `TABLE_SUFFIXES`: reader of the headers}."""


def part_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the headers of the parts of a table file: of the sheets of a workbook, or of the file itself.

    Raises:
        DataError: The file is empty, damaged, or not of a known form, or a column name occurs twice; in a
            workbook this is a defect of the sheet.
    """
    try:
        return READERS[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_part(header: PartHeader) -> TablePart:
    """Read the rows of a part.

    Raises:
        DataError: The file is damaged.
    """
    try:
        rows = header.rows()
    except OSError as error:
        raise DataError(f"{header.path} cannot be read: {error.strerror or error}") from error
    return TablePart(header.path, rows, header.sheet, header.header_lines)


def read_first_part(
    path: Path,
    columns: Sequence[str],
    remedy: str,
) -> TablePart:
    """Read the first part of a file of a published data set.

    Args:
        path: The file.
        columns: Columns that it must have.
        remedy: What the user can do if it lacks one.

    Raises:
        DataError: The file is damaged, or lacks a column.
    """
    part = read_part(part_headers(path)[0])
    missing = [column for column in columns if column not in part.frame.columns]
    if missing:
        present = ", ".join(part.frame.columns)
        raise DataError(f"{path} lacks {' and '.join(missing)}, but has {present}: {remedy}")
    return part
