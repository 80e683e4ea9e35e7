"""Rows of Parquet tables, streamed: of one file, of the shards of one table, or of several files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.cells import (
    Images,
    RowColumns,
    batch_of_cells,
    find_row_columns,
    numbered_names,
    numbered_places,
    stored_images,
    texts,
)
from tier4k.extract.datasets.rows.file_rows import FileRows
from tier4k.extract.datasets.rows.files import (
    base_name,
    data_folder,
    data_name,
    data_path,
    parent,
    read_failure,
    whole_path,
)
from tier4k.extract.datasets.rows.source import ROWS_PER_BATCH, RowBatch
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.find import shard_of
from tier4k.extract.datasets.tables.parquet_images import (
    PATH_FIELD,
    has_path,
    has_value,
    holds_text,
    is_bytes,
    is_image_struct,
)
from tier4k.extract.datasets.tables.parquet_tables import is_row_number
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.files import open_file
from tier4k.extract.images.parquet_rows import BYTES_FIELD
from tier4k.extract.images.place_names import quoted_name

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

HEADER_LINES = 1  # lines are counted as if the table were a text file with a header


@dataclass(frozen=True)
class ParquetRows(FileRows[TableChoice]):
    """Rows of Parquet files."""

    @classmethod
    def open(
        cls,
        data: Path | str,
        files: Sequence[str],
        choice: TableChoice,
        needs_prompts: bool,
        left_out: Sequence[str] = (),
    ) -> "ParquetRows":
        """Find the columns of a table in its first file.

        Args:
            data: The data set as the user named it.
            files: Paths or URLs of its files.
            choice: What the user says about columns.
            needs_prompts: Whether a row without a text prompt is a problem, where rows have prompts.
            left_out: Other files that are not read, with the reasons.

        Raises:
            DataError: The first file cannot be read, has no column of images, or is empty and the only one.
        """
        with _opened(files[0]) as table:
            columns = _find_columns(table, files[0], choice)
            if len(files) == 1 and not table.metadata.num_rows:
                raise DataError(f"{files[0]} has a header but no rows: add the rows")
        return cls(
            name=shown(data_name(data, files)),
            path=data_path(data),
            folder=data_folder(data, files),
            has_prompts=columns.prompt is not None,
            needs_prompts=needs_prompts,
            report=columns.report(left_out),
            files=tuple(map(whole_path, files)),
            choice=choice,
        )

    def _rows_of(self, file: str, label: str) -> Iterator[RowBatch]:
        with _opened(file) as table:
            yield from _File(table, file, label, _find_columns(table, file, self.choice)).batches()


@contextmanager
def _opened(file: str) -> "Iterator[pq.ParquetFile]":
    """Open a Parquet file.

    Raises:
        DataError: It cannot be opened, or not be read in the context.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(file) as source, pq.ParquetFile(source) as table:
            yield table
    except (pa.ArrowException, ImageError, OSError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{file} cannot be read as .parquet: {read_failure(error)}") from error


def _find_columns(
    table: "pq.ParquetFile",
    file: str,
    choice: TableChoice,
) -> RowColumns:
    schema = table.schema_arrow
    names = [name for name in schema.names if not is_row_number(schema, name)]
    return find_row_columns(file, names, choice)


@dataclass(frozen=True)
class _ImageColumn:
    """A column of images in one file.

    Attributes:
        name: Name of the column.
        paths: The leaf with paths; None if there are none.
        is_stored: Whether the table holds the bytes of each image of the file (N,); None if it holds none.
    """

    name: str
    paths: str | None
    is_stored: np.ndarray | None

    @classmethod
    def of(cls, table: "pq.ParquetFile", name: str) -> "_ImageColumn":
        """Look at a column."""
        kind = table.schema_arrow.field(name).type
        if is_image_struct(kind):
            paths = f"{name}.{PATH_FIELD}" if has_path(kind) else None
            return cls(name, paths, has_value(table, name, f"{name}.{BYTES_FIELD}"))
        if is_bytes(kind) and not holds_text(table, name):
            return cls(name, None, has_value(table, name, name))
        return cls(name, name, None)


@dataclass(frozen=True)
class _File:
    """One open file."""

    table: "pq.ParquetFile"
    path: str
    label: str
    columns: RowColumns

    def batches(self) -> Iterator[RowBatch]:
        """Yield the rows of the file."""
        image = _ImageColumn.of(self.table, self.columns.image)
        image_prompt = None
        if self.columns.image_prompt:
            image_prompt = _ImageColumn.of(self.table, self.columns.image_prompt)
        start = 0
        for rows in self._read([image, image_prompt]):
            numbers = np.arange(start, start + rows.num_rows)
            yield self._batch(rows, numbers, image, image_prompt)
            start += rows.num_rows

    def _read(self, images: "Sequence[_ImageColumn | None]") -> "Iterator[pa.RecordBatch]":
        """Yield the rows with only the columns of paths and prompts: the bytes of images are not read."""
        leaves = [column.paths for column in images if column]
        needed = [leaf for leaf in (*leaves, self.columns.prompt) if leaf]
        return self.table.iter_batches(batch_size=ROWS_PER_BATCH, columns=needed, use_threads=False)

    def _batch(
        self,
        rows: "pa.RecordBatch",
        numbers: np.ndarray,
        image: _ImageColumn,
        image_prompt: _ImageColumn | None,
    ) -> RowBatch:
        images = self._images(rows, numbers, image)
        prompt = self.columns.prompt
        prompts = texts(rows.column(prompt), prompt) if prompt else None
        image_prompts = self._images(rows, numbers, image_prompt) if image_prompt else None
        return batch_of_cells(images, prompts, image_prompts, self.label, numbers + HEADER_LINES + 1)

    def _images(
        self,
        rows: "pa.RecordBatch",
        numbers: np.ndarray,
        column: _ImageColumn,
    ) -> Images:
        import pyarrow as pa
        import pyarrow.compute as pc

        paths = pa.repeat(pa.scalar(""), len(numbers))
        if column.paths:
            cells = rows.column(column.name)
            is_struct = column.is_stored is not None
            paths = texts(pc.struct_field(cells, PATH_FIELD) if is_struct else cells, column.name)
        is_stored = np.zeros(len(numbers), bool) if column.is_stored is None else column.is_stored[numbers]
        shard = f"{base_name(self.path).rpartition('.')[0]} " if shard_of(Path(self.path)) else ""
        return stored_images(
            paths,
            is_stored,
            numbered_places(f"{self.path}/#{quoted_name(column.name)}", numbers),
            numbered_names(f"{shard}row", numbers),
            parent(self.path),
        )
