"""A part of a table file: the table itself, or one sheet of a workbook."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class PartHeader:
    """A part whose rows have not been read.

    Attributes:
        path: The file.
        columns: Names of the columns, distinct.
        rows: Reads the rows, as in `TablePart.frame`. It keeps what was read to find the header, so that no
            file is parsed twice.
        sheet: Name of the sheet; None in a file without sheets.
        is_hidden: Whether a spreadsheet program hides the sheet.
        header_lines: Number of lines of the header, 0 in a file without one.
        defect: Why the part cannot be read, though others of the file can; "" if it can.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Callable[[], pd.DataFrame] = field(repr=False, compare=False)
    sheet: str | None = None
    is_hidden: bool = False
    header_lines: int = 1
    defect: str = ""

    @property
    def label(self) -> str:
        """The part in a message, such as "t.xlsx, sheet final"."""
        if self.sheet is None:
            return self.path.name
        return f"{self.path.name}, {'hidden ' if self.is_hidden else ''}sheet {self.sheet}"


@dataclass(frozen=True)
class TablePart:
    """A part with its rows.

    Attributes:
        path: The file.
        frame: The rows. Columns are distinct texts; a cell of .csv, .xlsx or .json is as written, and an
            empty one is "" or missing; the index is the number of the row in the file, from 0, and blank
            rows, which are counted, are left out.
        sheet: Name of the sheet; None in a file without sheets.
        header_lines: Number of lines of the header: a row is in line 1 + `header_lines` + its number.
    """

    path: Path
    frame: pd.DataFrame
    sheet: str | None = None
    header_lines: int = 1
