"""Files of the hash cache: columns that are mapped into memory; written once and never changed.

A file has a header (mark, number N of entries, XXH3-128 of the rest) and the columns of `Entries`: N first
numbers, N second numbers (8 bytes each, little-endian), N keys (32 bytes), N flags (1 byte). Its name begins
with the time of its newest entries, so the names sort as the files were written. The suffix names the format:
another version leaves these files alone.
"""

import mmap
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from tier4k.cache.atomic import publish
from tier4k.cache.keys import KEY_BYTES
from tier4k.extract.datasets.hashes.entries import Entries

SUFFIX = ".hashes-1"
MARK = b"tier4k hashes 1\n"
HEADER_BYTES = 64
WIDTHS = (8, 8, KEY_BYTES, 1)  # bytes of an entry in each column
READ_BYTES = 2**20

_CHECKSUM = slice(24, 40)


class DamagedFileError(Exception):
    """A file of the cache is not as it was written."""


@dataclass(frozen=True)
class HashFile:
    """A file of the cache.

    Attributes:
        path: The file.
        written_ns: Time of its newest entries.
        entries: Its content, mapped into memory.
    """

    path: Path
    written_ns: int
    entries: Entries


def list_hash_files(folder: Path) -> list[Path]:
    """Return the files of a cache, the oldest first; none if the folder does not exist."""
    # macOS leaves files ._NAME on network shares.
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def open_hash_file(path: Path) -> HashFile:
    """Map a file into memory, after its checksum was compared.

    Raises:
        DamagedFileError: The file is not as it was written.
        OSError: The system refuses to read it, or it is gone.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        count = int.from_bytes(header[16:24], "little")
        size = os.fstat(file.fileno()).st_size
        if len(header) < HEADER_BYTES or not header.startswith(MARK) or size != _file_size(count):
            raise DamagedFileError(path)
        checksum = _checksum(file)
        written = path.name.partition("-")[0]
        if checksum != header[_CHECKSUM] or not written.isdecimal():
            raise DamagedFileError(path)
        content = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    return HashFile(path, int(written), _columns(content, count))


def write_hash_file(
    folder: Path,
    written_ns: int,
    count: int,
    blocks: Iterable[Entries],
) -> None:
    """Publish a file.

    Args:
        folder: The folder of the cache; made if it does not exist.
        written_ns: Time of the newest entries.
        count: Number N of entries.
        blocks: The entries, sorted, in blocks with N entries in all.

    Raises:
        OSError: The system refuses to write.
    """
    path = folder / f"{written_ns:020d}-{secrets.token_hex(4)}{SUFFIX}"
    publish(path, lambda temporary: _write(temporary, count, blocks))


def _write(
    path: Path,
    count: int,
    blocks: Iterable[Entries],
) -> None:
    # Not through a map: on a full disk, the system would kill the process instead of refusing to write.
    with path.open("wb+") as file:
        file.truncate(_file_size(count))
        start = 0
        for block in blocks:
            columns = (block.first, block.second, block.keys, block.flags)
            for (offset, width), column in zip(_places(count), columns, strict=True):
                file.seek(offset + start * width)
                file.write(np.ascontiguousarray(column).data)
            start += len(block)
        file.seek(HEADER_BYTES)
        digest = _checksum(file)
        file.seek(0)
        file.write(MARK + count.to_bytes(8, "little") + digest)


def _checksum(file: BinaryIO) -> bytes:
    """Return the XXH3-128 of the rest of a file.

    Blocks are read: the pages of a map would count as memory of this process.
    """
    checksum = xxhash.xxh3_128()
    while block := file.read(READ_BYTES):
        checksum.update(block)
    return checksum.digest()


def _file_size(count: int) -> int:
    return HEADER_BYTES + count * sum(WIDTHS)


def _places(count: int) -> list[tuple[int, int]]:
    """Return the offset of each column in a file, and the bytes of one entry in it."""
    places = []
    offset = HEADER_BYTES
    for width in WIDTHS:
        places.append((offset, width))
        offset += width * count
    return places


def _columns(content: mmap.mmap, count: int) -> Entries:
    """View the bytes of a file as entries."""
    first, second, keys, flags = (
        np.frombuffer(content, np.uint8, width * count, offset) for offset, width in _places(count)
    )
    return Entries(first.view("<u8"), second.view("<u8"), keys.reshape(-1, KEY_BYTES), flags)
