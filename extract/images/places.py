"""Places of images: files, parts of files such as members of archives, and rows of Parquet tables.

A place is a text (`tier4k.extract.images.place_names`), so that it can be sorted, stored and sent to another
process. Files, archives and tables may be at URLs.
"""

from collections.abc import Iterable
from pathlib import Path

from tier4k.extract.images.file_state import FileState
from tier4k.extract.images.files import container_state, file_state, read_file, read_slice
from tier4k.extract.images.parquet_rows import read_row, row_size
from tier4k.extract.images.place_names import parse_parquet_place, parse_slice_place


def reading_order(places: Iterable[str]) -> list[str]:
    """Sort places so that each row group of a table is read once, and each archive from start to end."""
    return sorted(places, key=_reading_rank)


def _reading_rank(place: str) -> tuple[str, str, int]:
    if row := parse_parquet_place(place):
        return row.table, row.column, row.row
    if part := parse_slice_place(place):
        return part.file, "", part.offset
    return place, "", 0


def read_bytes(place: str | Path) -> bytes:
    """Read the bytes of an image.

    Raises:
        ImageError: The file cannot be read, or does not hold the image.
    """
    text = str(place)
    if row := parse_parquet_place(text):
        return read_row(row)
    if part := parse_slice_place(text):
        return read_slice(part.file, part.offset, part.size)
    return read_file(text)


def state(place: str) -> FileState:
    """Return the state of the file that holds an image; an equal state means that the image is the same.

    Raises:
        ImageError: There is no such file, or the system refuses to look at it.
    """
    if row := parse_parquet_place(place):
        return container_state(row.table)
    if part := parse_slice_place(place):
        return container_state(part.file)
    return file_state(place)


def size(place: str) -> int:
    """Return the number of bytes of an image.

    Raises:
        ImageError: The file cannot be read.
    """
    if row := parse_parquet_place(place):
        return row_size(row)
    if part := parse_slice_place(place):
        return part.size
    return file_state(place).size
