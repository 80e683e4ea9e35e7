"""Cells of tables: numbers, empty cells, texts that stand for a missing value, formulas, stored images."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd

SHOWN_CHARACTERS = 40

DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")

WRITTEN_NUMBER = re.compile(r"(?P<number>[+-]?[0-9.,]+([eE][+-]?[0-9]+)?)\s*(?P<sign>%?)")

THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")

PLAIN_TYPES = frozenset((str, int, float, type(None)))

MISSING_TEXTS = frozenset(("-", "--", "?", "#n/a", "n/a", "na", "nan", "nil", "none", "null"))


class Formula(str):
    """The text of a formula whose value the workbook does not contain."""


class PlacedImage(str):
    """The name of an image that is elsewhere than its name says: in a table, or in another folder.

    Attributes:
        place: The place of the image (see `tier4k.extract.images.places`).
    """

    place: str

    @classmethod
    def at(cls, name: str, place: str) -> "PlacedImage":
        """Return the name with its place."""
        image = cls(name)
        image.place = place
        return image


def empty_cells(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has no value, or only white space."""
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.isna()
    is_blank = [isinstance(cell, str) and not cell.strip() for cell in cells]
    return cells.isna() | np.array(is_blank, bool)


def cells_of_missing_texts(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has a text that stands for a missing value, such as "n/a"."""
    is_missing = [isinstance(cell, str) and cell.strip().lower() in MISSING_TEXTS for cell in cells]
    return pd.Series(is_missing, cells.index, dtype=bool)


@dataclass(frozen=True)
class ReadNumbers:
    """The numbers in a column.

    Attributes:
        all: (N,) float64, NaN for a cell without a number.
        plain: (N,) float64, the numbers among them that are written as programs write them.
        form: How the others are written, such as "with decimal commas"; "" if there are none.
    """

    all: pd.Series
    plain: pd.Series
    form: str = ""


def numbers(cells: pd.Series) -> pd.Series:
    """Return the numbers (N,) in the cells of a column, float64; NaN for a cell without one."""
    return read_numbers(cells).all


def with_numbers(cells: pd.Series) -> pd.Series:
    """Return the cells (N,) with numbers in place of texts that write them with decimal commas or per cent.

    How a column writes numbers is known from all of its cells only, so that this comes before its cells
    are joined with those of another table.
    """
    read = read_numbers(cells)
    if not read.form:
        return cells
    return cells.astype(object).where(read.plain.notna() | read.all.isna(), read.all.astype(object))


def read_numbers(cells: pd.Series) -> ReadNumbers:
    """Read the numbers in the cells of a column.

    Texts with decimal commas ("1,5") are numbers if no number of the column has a decimal point, and then
    "1,234" is 1.234. Texts with a sign for per cent are numbers ("85 %" is 85) if all numbers of the column
    have it. True and False are no numbers.
    """
    plain = _plain_numbers(cells)
    written = _written_numbers(cells, plain)
    texts = [match["number"] for match in written.values()]
    if not _has_decimal_point(texts) and not _has_decimal_point(cells[plain.notna()]):
        texts = [text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text for text in texts]
    found = pd.to_numeric(pd.Series(texts, index=list(written), dtype=object), errors="coerce").astype(float)
    has_sign = pd.Series([match["sign"] == "%" for match in written.values()], index=found.index, dtype=bool)
    if plain.notna().any() or found[~has_sign].notna().any():
        found = found.mask(has_sign)
    found = found.dropna()
    if found.empty:
        return ReadNumbers(plain, plain)
    values = plain.to_numpy(copy=True)
    values[found.index] = found
    form = _form([written[position] for position in found.index])
    return ReadNumbers(pd.Series(values, cells.index), plain, form)


def _has_decimal_point(cells: Iterable[object]) -> bool:
    return any(isinstance(cell, str) and "." in cell for cell in cells)


def _written_numbers(cells: pd.Series, plain: pd.Series) -> dict[int, re.Match[str]]:
    """Return {position: match} for the texts that may be numbers of a form that is to be decided."""
    written = {}
    positions = np.flatnonzero(plain.isna())
    for position, cell in zip(positions, cells.iloc[positions], strict=True):
        if type(cell) is str and (match := WRITTEN_NUMBER.fullmatch(cell.strip())):
            written[int(position)] = match
    return written


def _plain_numbers(cells: pd.Series) -> pd.Series:
    """Return the numbers (N,) that need no decision, NaN for other cells."""
    if pd.api.types.is_bool_dtype(cells.dtype) or not _has_number_type(cells.dtype):
        return pd.Series(np.nan, index=cells.index)
    if not set(map(type, cells)) <= PLAIN_TYPES:
        cells = cells.map(_number_or_text)
    try:
        return pd.to_numeric(cells, errors="coerce").astype(float)
    except OverflowError:
        return pd.to_numeric(cells.map(_finite_or_infinite), errors="coerce").astype(float)


def _has_number_type(dtype: object) -> bool:
    """Return whether cells of a type of columns may be numbers."""
    types = pd.api.types
    return types.is_numeric_dtype(dtype) or types.is_object_dtype(dtype) or types.is_string_dtype(dtype)


def _number_or_text(cell: object) -> object:
    """Return a cell that may be a number; None for other objects, and for what only looks like a text."""
    if isinstance(cell, (bool, np.bool_, Formula, PlacedImage)):
        return None
    return cell if isinstance(cell, (str, Real, Decimal)) else None


def _finite_or_infinite(cell: object) -> object:
    if not isinstance(cell, int):
        return cell
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf


def _form(written: Sequence[re.Match[str]]) -> str:
    """Return how texts write their numbers."""
    forms = []
    with_commas = [match["number"] for match in written if "," in match["number"]]
    if with_commas:
        # Elsewhere the comma of 1,234 stands between thousands.
        doubtful = next(filter(THOUSANDS.fullmatch, with_commas), "")
        example = f" ({doubtful} is {doubtful.replace(',', '.')})" if doubtful else ""
        forms.append(f"with decimal commas{example}")
    if any(match["sign"] for match in written):
        forms.append("in per cent")
    return ", ".join(forms)


def shown_cell(cell: object) -> str:
    """Return a cell for a message: a text in quotes, a date as one, and not more than its beginning."""
    text = f"the date {cell}" if isinstance(cell, date) else " ".join(repr(cell).split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
