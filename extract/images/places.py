"""Places of images: files, and rows of Parquet tables that hold the bytes of images.

A place is a text. That of a file is its path; that of a row is `TABLE/#COLUMN[ROW]`, where TABLE is the path
of the table and ROW counts from 0. A file has no files below it, so no image file has such a path. A `%` or
`/` in the name of the column is written as in a URL.
"""

import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from tier4k.extract.images.errors import ImageError

if TYPE_CHECKING:
    import pyarrow as pa

# Resolution of the time stamps on some file systems. A file that changed more recently may change again and
# keep its time stamp.
STAMP_RESOLUTION_NS = 2_000_000_000

# Rows that were read last are kept up to this size; a larger row group is kept alone.
KEPT_BYTES = 2**28

BYTES_FIELD = "bytes"  # of a struct column, as Hugging Face's data sets name it

_ROW = re.compile(r"(?P<table>.+)/#(?P<column>[^/]*)\[(?P<row>[0-9]+)\]", re.DOTALL)


@dataclass(frozen=True)
class ParquetRow:
    """A row of a Parquet table.

    Attributes:
        table: Path of the table.
        column: Name of a column of bytes, or of structs with a field `bytes`.
        row: Number of the row, from 0.
    """

    table: str
    column: str
    row: int


@dataclass(frozen=True)
class FileState:
    """Properties of a file of which at least one changes when the file is edited or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def is_settled(self) -> bool:
        """Whether the file cannot change any more without a new time stamp."""
        latest = max(self.modified_ns, self.changed_ns)
        return time.time_ns() - latest > STAMP_RESOLUTION_NS


def parquet_place(
    path: str | Path,
    column: str,
    row: int,
) -> str:
    """Return the place of the image in a row of a Parquet table.

    Args:
        path: Path of the table.
        column: Name of a column of bytes, or of structs with a field `bytes`.
        row: Number of the row, from 0.
    """
    name = column.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"{path}/#{name}[{row}]"


def parse_parquet_place(place: str) -> ParquetRow | None:
    """Return the row that a place names; None if the place is the path of a file."""
    if not place.endswith("]"):
        return None
    found = _ROW.fullmatch(place)
    if found is None:
        return None
    return ParquetRow(found["table"], unquote(found["column"]), int(found["row"]))


def reading_order(places: Iterable[str]) -> list[str]:
    """Sort places so that each row group of a table is read once."""
    return sorted(places, key=_reading_rank)


def _reading_rank(place: str) -> tuple[str, str, int]:
    row = parse_parquet_place(place)
    return (row.table, row.column, row.row) if row else (place, "", 0)


def read_bytes(place: str | Path) -> bytes:
    """Read the bytes of an image.

    Raises:
        ImageError: The file cannot be read, or the row of the table holds no bytes.
    """
    row = parse_parquet_place(str(place))
    if row:
        return _row_groups.read(row)
    try:
        with open(place, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise _unreadable("file", error) from error


def state(place: str) -> FileState:
    """Return the state of the file that holds an image; an equal state means that the image is the same.

    Raises:
        ImageError: There is no such file, or the system refuses to look at it.
    """
    row = parse_parquet_place(place)
    return _file_state(row.table if row else place)


def size(place: str) -> int:
    """Return the number of bytes of an image.

    Raises:
        ImageError: The file cannot be read.
    """
    row = parse_parquet_place(place)
    return _row_groups.size(row) if row else _file_state(place).size


def _file_state(path: str) -> FileState:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable("file", error) from error
    return FileState(
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def _unreadable(kind: str, error: Exception) -> ImageError:
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"the {kind} cannot be read ({reason})")


@dataclass(frozen=True)
class _RowGroup:
    """Identity of the rows of one column that a table stores together."""

    table: str
    state: FileState
    column: str
    number: int


class _RowGroups:
    """The row groups that this process read last. Threads may use it; no file stays open."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all; a child process needs this, as a thread of its parent may have held the lock."""
        self._lock = Lock()
        self._images: OrderedDict[_RowGroup, pa.ChunkedArray] = OrderedDict()
        self._sizes: dict[_RowGroup, np.ndarray] = {}
        self._ends: dict[tuple[str, FileState], np.ndarray] = {}

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
                self._loaded(group)
            return int(self._sizes[group][offset])

    def _locate(self, row: ParquetRow) -> tuple[_RowGroup, int]:
        """Return the row group of a row, and the number of the row in it."""
        state = _file_state(row.table)
        if (row.table, state) not in self._ends:
            self._ends[row.table, state] = _ends_of_row_groups(row.table)
        ends = self._ends[row.table, state]
        number = int(np.searchsorted(ends, row.row, side="right"))
        if number == len(ends):
            count = ends[-1] if len(ends) else 0
            raise ImageError(f"the table has only {count:,} rows")
        start = ends[number - 1] if number else 0
        return _RowGroup(row.table, state, row.column, number), row.row - int(start)

    def _loaded(self, group: _RowGroup) -> "pa.ChunkedArray":
        """Return the images of a row group, and forget those that were not used for longest."""
        if group in self._images:
            self._images.move_to_end(group)
            return self._images[group]
        images = _read_row_group(group)
        self._images[group] = images
        self._sizes[group] = _sizes(images)
        while len(self._images) > 1 and sum(kept.nbytes for kept in self._images.values()) > KEPT_BYTES:
            self._images.popitem(last=False)
        return images


def _ends_of_row_groups(table: str) -> np.ndarray:
    """Return for each row group of a table the number of rows up to its end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table) as file:
            about = file.metadata
    except (OSError, pa.ArrowException) as error:
        raise _unreadable("table", error) from error
    counts = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    return np.cumsum(counts, dtype=np.int64)


def _read_row_group(group: _RowGroup) -> "pa.ChunkedArray":
    """Read the images of a row group: bytes, null where a row has no image."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(group.table) as file:
            # Arrow's threads do not survive a fork.
            rows = file.read_row_group(group.number, columns=[group.column], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable("table", error) from error
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
