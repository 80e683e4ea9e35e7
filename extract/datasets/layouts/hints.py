"""Hints for a table that lacks columns: which of its columns have images, and which have scores."""

import pandas as pd

from tier4k.extract.datasets.columns import FoundColumns
from tier4k.extract.datasets.locate import Locator
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.targets import choose_targets

IMAGE = "image"  # as the generic layout calls its column of images

CELLS_SEEN = 20  # first cells of a column that must all name files


def column_hints(
    part: TablePart,
    found: FoundColumns,
    choice: TableChoice,
) -> list[str]:
    """Return sentences with the columns that may be the missing ones, by what their cells have.

    Args:
        part: The rows of the table.
        found: Its columns.
        choice: What the user says about the table.
    """
    hints = []
    if IMAGE in found.missing:
        hints += _image_hints(part, choice)
    if set(found.missing) - {IMAGE} and choice.column_choice.targets:
        scores = choose_targets(part.frame, list(found.of.values())).columns
        hints.append(f"Its columns of numbers are: {', '.join(scores) or 'none'}.")
    return hints


def _image_hints(part: TablePart, choice: TableChoice) -> list[str]:
    locator = Locator(choice.folder_of_images(part.path.parent))
    columns = [column for column in part.frame.columns if _names_files(part.frame[column], locator)]
    if len(columns) != 1:
        return []
    found = "its cells are names of files that exist."
    if choice.columns:
        return [f"Pass --columns {choice.columns},image={columns[0]}: {found}"]
    others = "Name the columns of prompts and generators there too: prompt=…,generator=…"
    return [f"Pass --columns image={columns[0]}: {found} {others}"]


def _names_files(cells: pd.Series, locator: Locator) -> bool:
    """Whether the first cells of a column are all names of files."""
    first = cells.iloc[:CELLS_SEEN]
    return len(first) > 0 and all(isinstance(cell, str) and cell and locator.place(cell) for cell in first)
