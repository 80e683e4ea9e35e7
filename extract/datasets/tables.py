"""Table files: finding the one of a data set, and reading its cells as text."""

import zipfile
import zlib
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.errors import DataError

MISSING_TEXTS = frozenset(("-", "--", "?", "#n/a", "n/a", "na", "nan", "nil", "none", "null"))

TABLE_SUFFIXES = (".csv", ".xlsx", ".parquet")

PUBLISHED_TABLES = ("annotation.xlsx", "data.csv", "PKU-AIGIQA-4K/annotation.xlsx")

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


def is_table(path: Path) -> bool:
    """Return whether the suffix of a path is one of `TABLE_SUFFIXES`."""
    return path.suffix.lower() in TABLE_SUFFIXES


def find_table(data: Path) -> Path:
    """Return the table file of a data set.

    Args:
        data: The table itself, its folder, or a folder that holds `PKU-AIGIQA-4K`.

    Raises:
        DataError: The place does not exist, or holds no table or several.
    """
    try:
        return _find_table(data)
    except OSError as error:  # such as a name that is too long, or a folder without read permission
        raise DataError(f"{data} cannot be opened: {error.strerror or error}") from error


def _find_table(data: Path) -> Path:
    if not data.exists():
        raise DataError(
            f"{data} does not exist: pass a table, or the data folder, which contains annotation.xlsx or "
            "data.csv"
        )
    if data.is_file():
        if not is_table(data):
            raise DataError(
                f"{data} is not a table: pass a folder or a file that ends in {', '.join(TABLE_SUFFIXES)}"
            )
        return data
    for name in PUBLISHED_TABLES:
        if (data / name).is_file():
            return data / name
    if not data.is_dir():
        raise DataError(f"{data} is neither a folder nor a file: pass the data folder or a table")
    return _only_table(data)


def _only_table(folder: Path) -> Path:
    tables = sorted(filter(is_table, folder.iterdir()))
    if len(tables) == 1:
        return tables[0]
    found = "no table"
    if tables:
        names = ", ".join(path.name for path in tables[:5])
        found = f"{len(tables)} tables ({names})"
    raise DataError(
        f"{folder} contains {found}, but must contain annotation.xlsx (PKU-AIGIQA-4K), data.csv "
        "(AGIQA-3K), or one .csv, .xlsx or .parquet file with the columns image and prompt: pass the path "
        "of the table if there are several"
    )


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


def empty_cells(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has no value, or only white space."""
    return cells.isna() | cells.map(lambda cell: isinstance(cell, str) and not cell.strip()).astype(bool)


def cells_of_missing_texts(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has a text that stands for a missing value, such as "n/a"."""
    return cells.map(lambda cell: isinstance(cell, str) and cell.strip().lower() in MISSING_TEXTS).astype(
        bool
    )
