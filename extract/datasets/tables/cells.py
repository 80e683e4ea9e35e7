"""Cells of tables: numbers, empty cells, texts that stand for a missing value, formulas, stored images."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd

DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")

DECIMAL_POINT = re.compile(r"[+-]?[0-9,]*\.[0-9]*([eE][+-]?[0-9]+)?")

THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")

PLAIN_TYPES = frozenset((str, int, float, type(None)))

MISSING_TEXTS = frozenset(("-", "--", "?", "#n/a", "n/a", "na", "nan", "nil", "none", "null"))


class Formula(str):
    """The text of a formula whose value the workbook does not contain."""


class StoredImage(str):
    """The name of an image that is elsewhere than its name says: in a table, or in another folder.

    Attributes:
        place: The place of the image (see `tier4k.extract.images.places`).
    """

    place: str

    @classmethod
    def at(cls, name: str, place: str) -> "StoredImage":
        """Return the name with its place."""
        image = cls(name)
        image.place = place
        return image


def empty_cells(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has no value, or only white space."""
    return cells.isna() | cells.map(lambda cell: isinstance(cell, str) and not cell.strip()).astype(bool)


def cells_of_missing_texts(cells: pd.Series) -> pd.Series:
    """Return (N,) bool: whether a cell has a text that stands for a missing value, such as "n/a"."""
    return cells.map(lambda cell: isinstance(cell, str) and cell.strip().lower() in MISSING_TEXTS).astype(
        bool
    )


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

    How a column writes numbers can be told from all of its cells only, so that this comes before its cells
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
    is_other = plain.isna() & cells.map(lambda cell: type(cell) is str and bool(cell.strip())).astype(bool)
    texts = cells[is_other].map(str.strip)
    has_sign = texts.map(lambda text: text.endswith("%")).astype(bool)
    bare = texts.map(lambda text: text.removesuffix("%").rstrip())
    has_comma = bare.map(lambda text: DECIMAL_COMMA.fullmatch(text) is not None).astype(bool)
    if has_comma.any() and not _have_points([*cells[plain.notna()], *bare]):
        bare = bare.where(~has_comma, bare.map(lambda text: text.replace(",", ".")))
    found = pd.to_numeric(bare, errors="coerce").astype(float)
    if plain.notna().any() or found[~has_sign].notna().any():
        found = found.mask(has_sign)
    found = found.dropna()
    if found.empty:
        return ReadNumbers(plain, plain)
    values = plain.copy()
    values[is_other] = found.reindex(texts.index)
    return ReadNumbers(values, plain, _form(texts[found.index], has_comma[found.index]))


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
    if isinstance(cell, (bool, np.bool_, Formula, StoredImage)):
        return None
    return cell if isinstance(cell, (str, Real, Decimal)) else None


def _finite_or_infinite(cell: object) -> object:
    if not isinstance(cell, int):
        return cell
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf


def _have_points(cells: Iterable[object]) -> bool:
    return any(isinstance(cell, str) and DECIMAL_POINT.fullmatch(cell.strip()) for cell in cells)


def _form(texts: pd.Series, has_comma: pd.Series) -> str:
    """Return how texts write their numbers."""
    forms = []
    if has_comma.any():
        # Elsewhere the comma of 1,234 stands between thousands.
        doubtful = next(filter(THOUSANDS.fullmatch, texts[has_comma].map(lambda text: text.rstrip("% "))), "")
        example = f" ({doubtful} is {doubtful.replace(',', '.')})" if doubtful else ""
        forms.append(f"with decimal commas{example}")
    if texts.map(lambda text: text.endswith("%")).any():
        forms.append("in per cent")
    return ", ".join(forms)
