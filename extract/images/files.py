"""Bytes and states of files, on this machine or at a URL."""

import os
import stat
from typing import BinaryIO

from tier4k.extract.images import urls
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.file_state import FileState
from tier4k.extract.images.place_names import is_url

BUFFER_BYTES = 2**17
"""What one reading of an open file reads at least: the headers of an archive lie between its images."""


def read_file(path: str) -> bytes:
    """Read a file.

    Raises:
        ImageError: It cannot be read.
    """
    if is_url(path):
        return urls.read_url(path)
    try:
        if stat.S_IFMT(os.stat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise ImageError("the file cannot be read (it is a pipe or a device)")  # and could wait for ever
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise unreadable("file", error) from error


def read_slice(
    path: str,
    offset: int,
    size: int,
) -> bytes:
    """Read a part of a file.

    Args:
        path: Path or URL of the file.
        offset: Number of bytes before the part.
        size: Number of bytes of the part.

    Raises:
        ImageError: It cannot be read, or the file is shorter.
    """
    if is_url(path):
        return urls.read_url_slice(path, offset, size)
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(size) or b""
    except (OSError, ValueError) as error:
        raise unreadable("file", error) from error
    if len(data) < size:
        raise ImageError(f"the file ends {size - len(data):,} bytes before the end of the image")
    return data


def open_file(path: str) -> BinaryIO:
    """Open a file for reading and seeking.

    Raises:
        ImageError: There is no such object at a URL.
        OSError: The file cannot be opened.
    """
    return urls.open_url(path) if is_url(path) else open(path, "rb", BUFFER_BYTES)


def file_state(path: str) -> FileState:
    """Return the state of a file.

    Raises:
        ImageError: There is no such file, or the system refuses to look at it.
    """
    if is_url(path):
        return urls.url_state(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise unreadable("file", error) from error
    return FileState(
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def container_state(path: str) -> FileState:
    """Return the state of a file that holds many images; that of a URL may be a minute old.

    Raises:
        ImageError: There is no such file, or the system refuses to look at it.
    """
    return urls.container_state(path) if is_url(path) else file_state(path)


def unreadable(kind: str, error: Exception) -> ImageError:
    """Return the error of a file, or of another kind of place, with the reason of the system."""
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"the {kind} cannot be read ({reason})")
