"""`--split column:NAME`: a column of the table has the part of each row, as official splits are published."""

import re
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from tier4k.cache.text import nearest
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.splits import PARTS, SplitError
from tier4k.heads.data.stored_splits import StoredSplit, StoredSplits

COLUMN = "column:"

PART_OF = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""{value of a cell in lower case: part}."""

EMPTY = "empty"

SHOWN_VALUES = 8

SHOWN_CHARACTERS = 40

NAME_CHARACTERS = 40


@dataclass(frozen=True)
class ColumnSplit:
    """A column that has the part of each row.

    Attributes:
        column: Name of the column.
    """

    column: str

    @classmethod
    def parse(cls, text: str) -> "ColumnSplit":
        """Return the split of a text column:NAME.

        Raises:
            SplitError: The name is empty.
        """
        name = text.removeprefix(COLUMN).strip()
        if not name:
            raise SplitError(f"--split {text!r} names no column: pass column:NAME, for example column:split")
        return cls(name)

    def of(self, manifest: Manifest) -> StoredSplits:
        """Return the only repeat of the split.

        Cells are compared without case and without space around them (see `PART_OF`).

        Args:
            manifest: The rows to split.

        Raises:
            SplitError: There is no such column, or a row has another value or none.
        """
        cells = self._cells(manifest)
        values = cells.map(_text)
        parts = values.str.lower().map(PART_OF)
        if parts.isna().any():
            raise self._unknown_values(manifest, values, parts.isna())
        names = {part: manifest.table.loc[parts == part, "name"].tolist() for part in PARTS}
        repeat = StoredSplit(seed=0, **names)
        return StoredSplits(f"column {self.column!r} of {manifest.name}", [repeat], self._kind)

    @property
    def _kind(self) -> str:
        """The beginning of the name of the splits, which is part of the name of a folder."""
        return f"column-{re.sub(r'[^A-Za-z0-9_]+', '_', self.column)[:NAME_CHARACTERS]}"

    def _cells(self, manifest: Manifest) -> pd.Series:
        """Return the cells (N,) of the column.

        A column that has another meaning too is found by that meaning: the message about its values says more
        than that it does not exist.
        """
        used = ("name", "prompt", "generator", "dataset", *manifest.targets)
        if self.column in manifest.columns:
            return manifest.columns[self.column]
        if self.column in used:
            return manifest.table[self.column]
        others = [str(name) for name in manifest.columns]
        raise SplitError(
            f"{manifest.name} has no column {self.column!r} without another meaning"
            f"{nearest(self.column, others)}: pass --split column:NAME with one of its columns "
            f"({', '.join(others) or 'there are none'})"
        )

    def _unknown_values(
        self,
        manifest: Manifest,
        values: pd.Series,
        is_unknown: pd.Series,
    ) -> SplitError:
        """Return the error about values that name no part, with the numbers of rows of all values."""
        counts = Counter(value or EMPTY for value in values)
        unknown = {value or EMPTY for value in values[is_unknown]}
        # Values that name no part come first: they are the problem.
        ordered = sorted(counts, key=lambda value: (value not in unknown, -counts[value]))
        shown = [f"{value[:SHOWN_CHARACTERS]} ({counts[value]} rows)" for value in ordered[:SHOWN_VALUES]]
        if len(ordered) > SHOWN_VALUES:
            shown.append(f"{len(ordered) - SHOWN_VALUES} more values")
        sets = manifest.table.loc[values == "", "dataset"].unique()
        lacking = ""
        if 0 < len(sets) < len(manifest.datasets):
            lacking = f"; the empty cells are in {', '.join(sets)}"
        return SplitError(
            f"column {self.column!r} of {manifest.name} gives {int(is_unknown.sum())} of {len(values)} rows "
            f"no part; it has {', '.join(shown)}{lacking}: write train, val (or validation) or test in every "
            "row, or use another --split"
        )


def _text(cell: object) -> str:
    """Return the text of a cell without space around it, "" for an empty one."""
    if isinstance(cell, str):
        return cell.strip()
    if not pd.api.types.is_scalar(cell) or isinstance(cell, bytes):
        return f"<{type(cell).__name__}>"  # such as the bytes of an image, which nobody wants to read
    return "" if pd.isna(cell) else str(cell)
