"""Images in the rows of Parquet tables. Row groups are read whole, and those that were read last are kept."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.file_state import FileState
from tier4k.extract.images.files import container_state, open_file, unreadable
from tier4k.extract.images.place_names import ParquetRow

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows that were read last are kept up to this size; a larger row group is kept alone.
KEPT_BYTES = 2**28

# Numbers of bytes of images, 8 bytes each, are kept longer than the images, but not for ever.
KEPT_SIZES = 2**21

# The footer of a table with many row groups takes long to read.
KEPT_TABLES = 64

BYTES_FIELD = "bytes"  # of a struct column, as Hugging Face's data sets name it


@dataclass(frozen=True)
class _Table:
    """A table in one state."""

    path: str
    state: FileState


@dataclass(frozen=True)
class _RowGroup:
    """Identity of the rows of one column that a table stores together."""

    table: _Table
    column: str
    number: int


@dataclass(frozen=True)
class _Footer:
    """What a table says about its row groups.

    Attributes:
        metadata: The footer.
        ends: For each row group the number of rows up to its end.
    """

    metadata: "pq.FileMetaData"
    ends: np.ndarray


class _RowGroups:
    """The row groups that this process read last. Threads may use it; no file stays open."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all; a child process needs this, as a thread of its parent may have held the lock."""
        self._lock = Lock()
        self._images: OrderedDict[_RowGroup, pa.ChunkedArray] = OrderedDict()
        self._image_bytes = 0
        self._sizes: OrderedDict[_RowGroup, np.ndarray] = OrderedDict()
        self._size_count = 0
        self._footers: OrderedDict[_Table, _Footer] = OrderedDict()

    def read(self, row: ParquetRow) -> bytes:
        """Return the bytes of the image in a row."""
        with self._lock:
            group, offset = self._locate(row)
            images = self._loaded(group)
        image = images[offset].as_py()
        if image is None:
            raise ImageError(f"the row has no bytes in the column {row.column!r}")
        return image

    def size(self, row: ParquetRow) -> int:
        """Return the number of bytes of the image in a row, 0 if there is none."""
        with self._lock:
            group, offset = self._locate(row)
            if group not in self._sizes:
                self._keep_sizes(group, _sizes(self._loaded(group)))
            return int(self._sizes[group][offset])

    def _locate(self, row: ParquetRow) -> tuple[_RowGroup, int]:
        """Return the row group of a row, and the number of the row in it."""
        table = _Table(row.table, container_state(row.table))
        ends = self._footer(table).ends
        number = int(np.searchsorted(ends, row.row, side="right"))
        if number == len(ends):
            count = ends[-1] if len(ends) else 0
            raise ImageError(f"the table has only {count:,} rows")
        start = ends[number - 1] if number else 0
        return _RowGroup(table, row.column, number), row.row - int(start)

    def _footer(self, table: _Table) -> _Footer:
        if table not in self._footers:
            self._footers[table] = _read_footer(table.path)
            if len(self._footers) > KEPT_TABLES:
                self._footers.popitem(last=False)
        self._footers.move_to_end(table)
        return self._footers[table]

    def _loaded(self, group: _RowGroup) -> "pa.ChunkedArray":
        """Return the images of a row group, and forget those that were not used for longest."""
        if group in self._images:
            self._images.move_to_end(group)
            return self._images[group]
        images = _read_row_group(group, self._footer(group.table).metadata)
        self._images[group] = images
        self._image_bytes += images.nbytes
        while len(self._images) > 1 and self._image_bytes > KEPT_BYTES:
            self._image_bytes -= self._images.popitem(last=False)[1].nbytes
        if group not in self._sizes:
            self._keep_sizes(group, _sizes(images))
        return images

    def _keep_sizes(self, group: _RowGroup, sizes: np.ndarray) -> None:
        """Keep the numbers of bytes of a row group, and forget the oldest."""
        if group in self._sizes:
            return
        self._sizes[group] = sizes
        self._size_count += len(sizes)
        while len(self._sizes) > 1 and self._size_count > KEPT_SIZES:
            self._size_count -= len(self._sizes.popitem(last=False)[1])


def read_row(row: ParquetRow) -> bytes:
    """Read the bytes of the image in a row.

    Raises:
        ImageError: The table cannot be read, or the row holds no bytes.
    """
    return _row_groups.read(row)


def row_size(row: ParquetRow) -> int:
    """Return the number of bytes of the image in a row, 0 if there is none.

    Raises:
        ImageError: The table cannot be read.
    """
    return _row_groups.size(row)


def _read_footer(table: str) -> _Footer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(table) as file:
            metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise unreadable("table", error) from error
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return _Footer(metadata, np.cumsum(counts, dtype=np.int64))


def _read_row_group(group: _RowGroup, metadata: "pq.FileMetaData") -> "pa.ChunkedArray":
    """Read the images of a row group: bytes, null where a row has no image."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with open_file(group.table.path) as source, pq.ParquetFile(source, metadata=metadata) as file:
            # Arrow's threads do not survive a fork.
            rows = file.read_row_group(group.number, columns=[group.column], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise unreadable("table", error) from error
    if group.column not in rows.column_names:
        raise ImageError(f"the table has no column {group.column!r}")
    images = rows.column(group.column)
    if pa.types.is_struct(images.type) and images.type.get_field_index(BYTES_FIELD) >= 0:
        images = pc.struct_field(images, BYTES_FIELD)
    if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
        raise ImageError(f"the column {group.column!r} of the table holds no bytes")
    return images


def _sizes(images: "pa.ChunkedArray") -> np.ndarray:
    import pyarrow.compute as pc

    return pc.binary_length(images).fill_null(0).to_numpy()


_row_groups = _RowGroups()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_row_groups.forget)
