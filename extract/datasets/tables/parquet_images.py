"""Columns of Parquet tables that hold the bytes of images."""

from typing import TYPE_CHECKING

import numpy as np

from tier4k.extract.images.parquet_rows import BYTES_FIELD

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PATH_FIELD = "path"  # of a struct with the bytes of an image, as Hugging Face's data sets name it

PEEKED_ROWS = 16


def is_bytes(kind: "pa.DataType") -> bool:
    """Return whether the cells of a column are bytes."""
    import pyarrow as pa

    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def is_image_struct(kind: "pa.DataType") -> bool:
    """Return whether the cells of a column are structs with the bytes of an image."""
    import pyarrow as pa

    return pa.types.is_struct(kind) and kind.get_field_index(BYTES_FIELD) >= 0


def has_path(kind: "pa.DataType") -> bool:
    """Return whether structs with the bytes of an image have its path too."""
    return kind.get_field_index(PATH_FIELD) >= 0


def has_value(
    file: "pq.ParquetFile",
    column: str,
    leaf: str,
) -> np.ndarray:
    """Return for each row (N,) whether a leaf has a value; values are read only if the table needs it.

    Args:
        file: The table.
        column: Name of the column.
        leaf: Path of the leaf in it; the name of the column, if it has no fields.
    """
    is_valued = np.zeros(file.metadata.num_rows, dtype=bool)
    start = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        rows = slice(start, start + group.num_rows)
        nulls = _null_count(group, leaf)
        if nulls in (0, group.num_rows):
            is_valued[rows] = nulls == 0
        else:
            values = file.read_row_group(number, columns=[leaf], use_threads=False)
            is_valued[rows] = _validity(values.column(column))
        start += group.num_rows
    return is_valued


def holds_text(file: "pq.ParquetFile", column: str) -> bool:
    """Return whether the first bytes of a column are a text, as some programs write texts."""
    for batch in file.iter_batches(batch_size=PEEKED_ROWS, columns=[column], use_threads=False):
        for cell in batch.column(column).to_pylist():
            if cell:
                return _is_text(cell)
    return False


def _is_text(cell: bytes) -> bool:
    try:
        return cell.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _null_count(group: "pq.RowGroupMetaData", leaf: str) -> int | None:
    """Return the number of rows of a row group without a value; None if the file does not say it."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == leaf:
            statistics = chunk.statistics
            return statistics.null_count if statistics and statistics.has_null_count else None
    return None


def _validity(column: "pa.ChunkedArray") -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, BYTES_FIELD)
    return column.is_valid().to_numpy()
