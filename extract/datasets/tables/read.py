"""Read table files."""

import zipfile
import zlib
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.part import PartHeader, TablePart

WRONG_SEPARATORS = {";": "semicolons", "\t": "tabs"}

# Errors of pandas, openpyxl, zipfile and pyarrow on damaged files.
READING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    pd.errors.ParserError,
)


def part_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the headers of the parts of a table file.

    Raises:
        DataError: The file is empty, damaged, or not of a known form.
    """
    return (PartHeader(path, tuple(read_table(path).columns)),)


def read_part(header: PartHeader) -> TablePart:
    """Read the rows of a part.

    Raises:
        DataError: The file is damaged.
    """
    return TablePart(header.path, read_table(header.path), header.sheet)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table without its blank rows; the index is the number of the row in the file, from 0.

    Cells of .csv and .xlsx files stay as written: "007" is a name and "None" a prompt until a column turns
    out to hold scores.

    Raises:
        DataError: The file is empty, damaged, not UTF-8, or not separated by commas.
    """
    try:
        return _read_table(path)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty: add a header line and rows") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save the table as CSV UTF-8"
        ) from error
    except READING_ERRORS as error:
        raise DataError(f"{path} cannot be read as {path.suffix}: {error}") from error


def _read_table(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _without_blank_rows(_read_csv(path))
    if suffix == ".xlsx":
        frame = pd.read_excel(path, dtype=object, keep_default_na=False, na_values=[""])
        return _without_blank_rows(frame.rename(columns=str))
    frame = pd.read_parquet(path)
    return frame.reset_index(drop=True).rename(columns=str)


def _read_csv(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        skip_blank_lines=False,
    )
    _require_commas(frame, path)
    # pandas takes the first fields of rows that are too long for an index, and shifts the others.
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path} has rows with more fields than its header: put fields that contain commas in double "
            "quotes"
        )
    return frame


def _require_commas(frame: pd.DataFrame, path: Path) -> None:
    if len(frame.columns) != 1:
        return
    header = frame.columns[0]
    for separator, name in WRONG_SEPARATORS.items():
        if separator in header:
            raise DataError(
                f"{path} has {name} between fields: save the table with commas, and numbers with decimal "
                "points"
            )


def _without_blank_rows(frame: pd.DataFrame) -> pd.DataFrame:
    blank_cells = frame.isna() | frame.eq("")
    return frame[~blank_cells.all(axis=1)]
