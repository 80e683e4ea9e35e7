"""Columns of Arrow tables as texts and places of images, without a Python object a cell."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tier4k.extract.datasets.columns import FoundColumns, find_columns, missing_columns_error
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.layouts.read import NO_PROMPTS
from tier4k.extract.datasets.rows.batch import batch_of_columns
from tier4k.extract.datasets.rows.source import RowBatch
from tier4k.extract.datasets.source import TableReport
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.column_names import column_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_URL = "^[A-Za-z][A-Za-z0-9+.-]+://"


@dataclass(frozen=True)
class RowColumns:
    """Which columns of a streamed table hold images and prompts, by their names in the table.

    Attributes:
        image: Column of images.
        prompt: Column of text prompts; None without one.
        image_prompt: Column of image prompts; None without one.
        found: How they were found.
    """

    image: str
    prompt: str | None
    image_prompt: str | None
    found: FoundColumns

    def report(self, left_out: "Sequence[str]" = (), notes: "Sequence[str]" = ()) -> TableReport:
        """Return how the table was read."""
        no_prompts = () if self.prompt else (NO_PROMPTS,)
        return TableReport(
            columns=self.found.of,
            recognised=self.found.recognised,
            left_out=tuple(left_out),
            notes=(*notes, *no_prompts),
        )


def find_row_columns(
    where: str,
    columns: "Sequence[str]",
    choice: TableChoice,
) -> RowColumns:
    """Find the columns of images and prompts as in any table of a user.

    Args:
        where: The table, for a message.
        columns: Names of its columns as they are written.
        choice: What the user says about columns.

    Raises:
        DataError: There is no column of images, or several columns may be the same.
    """
    layout = LAYOUTS["table"]
    written = dict(zip(column_names(columns, where), columns, strict=True))
    found = find_columns(layout, tuple(written), choice.column_choice)
    if found.missing:
        raise missing_columns_error(where, layout, found, tuple(written), LAYOUTS)
    own = {canonical: written[column] for canonical, column in found.of.items()}
    return RowColumns(own["name"], own.get("prompt"), own.get("image_prompt"), found)


def texts(cells: "pa.Array", column: str) -> "pa.StringArray":
    """Return the cells (B,) of a column as texts without white space around them, "" for an empty cell.

    Raises:
        DataError: The cells are lists or objects.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
        decoded = [None if cell is None else cell.decode(errors="replace") for cell in cells.to_pylist()]
        cells = pa.array(decoded, pa.string())
    try:
        strings = cells.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"the column {column} holds neither texts nor images, but {cells.type}: name another with "
            "--columns"
        ) from error
    return pc.utf8_trim_whitespace(strings).fill_null("")


@dataclass(frozen=True)
class Images:
    """The images of a column.

    Attributes:
        names: Names (B,), for people.
        places: Places (B,), binary; empty for none.
    """

    names: "pa.StringArray"
    places: "pa.BinaryArray"


def batch_of_cells(
    images: Images,
    prompts: "pa.StringArray | None",
    image_prompts: Images | None,
    label: str,
    lines: np.ndarray,
) -> RowBatch:
    """Return a batch of B rows of a table.

    Args:
        images: The images.
        prompts: Text prompts (B,); None without a column of them.
        image_prompts: The image prompts; None without a column of them.
        label: Value of the column `file`.
        lines: Number of each row's line (B,).
    """
    import pyarrow as pa

    empty = pa.repeat(pa.scalar(""), len(lines))
    return batch_of_columns(
        {
            "name": images.names,
            "image": images.places,
            "prompt": empty if prompts is None else prompts,
            "image_prompt": empty if image_prompts is None else image_prompts.places,
            "file": pa.repeat(pa.scalar(label), len(lines)),
            "line": pa.array(lines),
        }
    )


def stored_images(
    paths: "pa.StringArray",
    is_stored: np.ndarray,
    places: "pa.Array",
    row_names: "pa.StringArray",
    folder: str,
) -> Images:
    """Return images of which some are in the table and others are files.

    Args:
        paths: Path of each image (B,), "" for none. It is the name of an image that is stored.
        is_stored: Whether its bytes are in the table (B,).
        places: Its place there (B,), binary.
        row_names: Names (B,) of stored images without a path.
        folder: Path or URL of the folder that paths begin in.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stored = pa.array(is_stored)
    named = pc.and_(stored, pc.equal(paths, ""))
    return Images(
        names=pc.if_else(named, row_names, paths),
        places=pc.if_else(stored, places, file_places(paths, folder)),
    )


def file_places(paths: "pa.StringArray", folder: str) -> "pa.BinaryArray":
    """Return the places (B,) of files by paths (B,) that are absolute, URLs, or relative to a folder."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_whole = pc.or_(pc.starts_with(paths, "/"), pc.match_substring_regex(paths, _URL))
    is_whole = pc.or_(is_whole, pc.equal(paths, ""))
    cells = paths.cast(pa.binary())
    return pc.if_else(is_whole, cells, pc.binary_join_element_wise(_bytes(folder), cells, _bytes("/")))


def numbered_places(
    start: str,
    *numbers: np.ndarray,
) -> "pa.BinaryArray":
    """Return places START[N] or START[N+M] (B,), binary.

    Args:
        start: The place before the bracket.
        numbers: One or two arrays of numbers (B,).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    written = [pa.array(values).cast(pa.string()).cast(pa.binary()) for values in numbers]
    inside = pc.binary_join_element_wise(*written, _bytes("+"))
    return pc.binary_join_element_wise(_bytes(f"{start}["), inside, _bytes("]"), _bytes(""))


def numbered_names(start: str, numbers: np.ndarray) -> "pa.StringArray":
    """Return names "START N" (B,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(start, pa.array(numbers).cast(pa.string()), " ")


def _bytes(text: str) -> Any:
    import pyarrow as pa

    return pa.scalar(os.fsencode(text), pa.binary())
