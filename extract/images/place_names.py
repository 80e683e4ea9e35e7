"""Texts that name where the bytes of an image are: a file, a part of a file, or a row of a Parquet table.

- A file is named by its path, or by its URL (`s3://bucket/a.png`).
- A row of a Parquet table is `TABLE/#COLUMN[ROW]`, where ROW counts from 0.
- A part of another file, such as a member of a tar archive, is `FILE/#NAME[OFFSET+SIZE]`, in bytes.

A file has no files below it, so no image file has such a path. A `%` or `/` in a name after the `#` is
written as in a URL.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_ROW = re.compile(r"(?P<table>.+)/#(?P<column>[^/]*)\[(?P<row>[0-9]+)\]", re.DOTALL)

_SLICE = re.compile(r"(?P<file>.+)/#(?P<name>[^/]*)\[(?P<offset>[0-9]+)\+(?P<size>[0-9]+)\]", re.DOTALL)

URL_START = "[A-Za-z][A-Za-z0-9+.-]+://"

_URL = re.compile(URL_START)


@dataclass(frozen=True)
class ParquetRow:
    """A row of a Parquet table.

    Attributes:
        table: Path or URL of the table.
        column: Name of a column of bytes, or of structs with a field `bytes`.
        row: Number of the row, from 0.
    """

    table: str
    column: str
    row: int


@dataclass(frozen=True)
class FileSlice:
    """A part of a file that holds the bytes of one image.

    Attributes:
        file: Path or URL of the file.
        name: Name of the image in the file.
        offset: Number of bytes before the image.
        size: Number of bytes of the image.
    """

    file: str
    name: str
    offset: int
    size: int


def is_url(path: str) -> bool:
    """Return whether a text is a URL, such as `s3://bucket/a.png`, and not the path of a file."""
    return _URL.match(path) is not None


def parquet_place(
    path: str | Path,
    column: str,
    row: int,
) -> str:
    """Return the place of the image in a row of a Parquet table.

    Args:
        path: Path or URL of the table.
        column: Name of a column of bytes, or of structs with a field `bytes`.
        row: Number of the row, from 0.
    """
    return f"{path}/#{quoted_name(column)}[{row}]"


def slice_place(
    path: str | Path,
    name: str,
    offset: int,
    size: int,
) -> str:
    """Return the place of an image that is a part of a file.

    Args:
        path: Path or URL of the file.
        name: Name of the image in the file.
        offset: Number of bytes before the image.
        size: Number of bytes of the image.
    """
    return f"{path}/#{quoted_name(name)}[{offset}+{size}]"


def quoted_name(name: str) -> str:
    """Return a name as it is written after the `#` of a place."""
    return name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def parse_parquet_place(place: str) -> ParquetRow | None:
    """Return the row that a place names; None if it names no row."""
    if not place.endswith("]"):
        return None
    found = _ROW.fullmatch(place)
    if found is None:
        return None
    return ParquetRow(found["table"], unquote(found["column"]), int(found["row"]))


def parse_slice_place(place: str) -> FileSlice | None:
    """Return the part of a file that a place names; None if it names none."""
    if not place.endswith("]"):
        return None
    found = _SLICE.fullmatch(place)
    if found is None:
        return None
    # Bytes of a name that are not UTF-8 are half characters, which stay as they are.
    name = unquote(found["name"], errors="surrogateescape")
    return FileSlice(found["file"], name, int(found["offset"]), int(found["size"]))
