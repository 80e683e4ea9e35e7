"""Parquet tables. Images whose bytes are in the table are named by their places, and not read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tier4k.cache.text import shortened
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.cells import PlacedImage
from tier4k.extract.datasets.tables.column_names import column_names
from tier4k.extract.datasets.tables.find import shard_of
from tier4k.extract.datasets.tables.parquet_images import (
    PATH_FIELD,
    has_path,
    has_value,
    holds_text,
    is_bytes,
    is_image_struct,
)
from tier4k.extract.datasets.tables.part import PartHeader
from tier4k.extract.images.parquet_rows import BYTES_FIELD
from tier4k.extract.images.place_names import parquet_place

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SAVED_INDEX = "__index_level_"
"""pandas calls the column of an index without a name so."""


def parquet_headers(path: Path) -> tuple[PartHeader, ...]:
    """Return the header of a Parquet table.

    Raises:
        DataError: The file is damaged, or a column name occurs twice.
        OSError: The file cannot be read.
    """
    with _damage_explained(path), _open(path) as file:
        schema = file.schema_arrow
    columns = [name for name in schema.names if not is_row_number(schema, name)]
    names = column_names(columns, str(path))
    return (PartHeader(path, names, partial(_frame, path, columns, names)),)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise DataError(
            f"{path} cannot be read as .parquet ({shortened(error)}): restore the file, or write it again"
        ) from error


@contextmanager
def _open(path: Path) -> "Iterator[pq.ParquetFile]":
    """Open a table. Arrow opens no path whose bytes are not UTF-8, so it gets an open file."""
    import pyarrow.parquet as pq

    with path.open("rb") as source, pq.ParquetFile(source) as file:
        yield file


def is_row_number(schema: "pa.Schema", name: str) -> bool:
    """Return whether a column is the index of a pandas table without a name."""
    import pyarrow as pa

    return name.startswith(SAVED_INDEX) and pa.types.is_integer(schema.field(name).type)


def _frame(
    path: Path,
    columns: Sequence[str],
    names: Sequence[str],
) -> pd.DataFrame:
    cells = {}
    with _damage_explained(path), _open(path) as file:
        for column, name in zip(columns, names, strict=True):
            cells[name] = _Column(file, path, column).cells()
        rows = file.metadata.num_rows
    return pd.DataFrame(cells, index=pd.RangeIndex(rows))


@dataclass(frozen=True)
class _Column:
    """A column of an open table."""

    file: "pq.ParquetFile"
    path: Path
    name: str

    def cells(self) -> pd.Series:
        """Return the cells (N,) as plain objects or numbers; an image in the table is a `PlacedImage`."""
        kind = self.file.schema_arrow.field(self.name).type
        if is_image_struct(kind):
            return self._images(f"{self.name}.{BYTES_FIELD}", self._paths(kind))
        if is_bytes(kind):
            if holds_text(self.file, self.name):
                return pd.Series([_decoded(cell) for cell in self._read().to_pylist()], dtype=object)
            return self._images(self.name, [None] * self.file.metadata.num_rows)
        return _plain(self._read())

    def _read(self, leaf: str | None = None) -> "pa.ChunkedArray":
        table = self.file.read(columns=[leaf or self.name], use_threads=False)
        return table.column(self.name)

    def _paths(self, kind: "pa.StructType") -> list[str | None]:
        """Return the paths beside the bytes of images."""
        import pyarrow.compute as pc

        if not has_path(kind):
            return [None] * self.file.metadata.num_rows
        paths = pc.struct_field(self._read(f"{self.name}.{PATH_FIELD}"), PATH_FIELD).to_pylist()
        return [str(path).strip() if path else None for path in paths]

    def _images(self, leaf: str, paths: Sequence[str | None]) -> pd.Series:
        """Return the images; a row without bytes has only the path of a file, or nothing."""
        has_bytes = has_value(self.file, self.name, leaf)
        stored = [path for path, is_stored in zip(paths, has_bytes, strict=True) if is_stored and path]
        are_names = len(set(stored)) == len(stored)  # some tables call all images "image.png"
        table = self.path.absolute()  # the names of other images are relative to a folder
        shard = f"{self.path.stem} " if shard_of(self.path) else ""
        images: list[str | None] = []
        for row, (path, is_stored) in enumerate(zip(paths, has_bytes, strict=True)):
            name = path if path and are_names else f"{shard}row {row}"
            place = parquet_place(table, self.name, row)
            images.append(PlacedImage.at(name, place) if is_stored else path)
        return pd.Series(images, dtype=object)


def _decoded(cell: bytes | None) -> str | None:
    return None if cell is None else cell.decode(errors="replace")


def _plain(column: "pa.ChunkedArray") -> pd.Series:
    """Return the cells of an ordinary column: categories as their values, times as they are written."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if is_number and (not column.null_count or pa.types.is_floating(kind)):
        return pd.Series(column.to_numpy())
    if pa.types.is_temporal(kind):
        return pd.Series(_times(column), dtype=object)
    if pa.types.is_nested(kind):
        return pd.Series(list(column.to_pandas()), dtype=object)
    return pd.Series(column.to_pylist(), dtype=object)


def _times(column: "pa.ChunkedArray") -> list[str | None]:
    """Return times as texts; where arrow cannot write them, such as those of an unknown zone, as numbers."""
    import pyarrow as pa

    try:
        return column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        numbers = column.cast(pa.int64()).to_pylist()
        return [None if number is None else f"{number} {column.type}" for number in numbers]
