"""Cells of tables: numbers, empty cells, texts that stand for a missing value, formulas, stored images."""

import pandas as pd

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


def numbers(cells: pd.Series) -> pd.Series:
    """Return the numbers (N,) in the cells of a column, float64; NaN for a cell without one."""
    return pd.to_numeric(cells, errors="coerce").astype(float)
