"""The content of a shard: its checks, errors of reading it, and maps of its file.

Every row of the features has a separate check (XXH3-64), so that a single row can be read and verified. The
checksum of the shard (XXH3-128) covers the keys and the checks, hence every row. XXH3 detects accidents only:
a person who changes a shard on purpose can also write a new checksum.
"""

import errno
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash

from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened

TOO_SHORT = "the file ends too early"
ROW_MISMATCH = "a row does not match its checksum"
ROW_NOT_FINITE = "a feature is NaN or infinite"


class ShardError(TierError):
    """A shard is damaged or is not a shard."""


class UnreadableShardError(TierError):
    """The system refuses to read a shard; its content may be sound."""


class VanishedShardError(UnreadableShardError):
    """The file no longer exists: a compaction moved its rows to another shard, or a user removed it."""


def row_checks(features: np.ndarray) -> np.ndarray:
    """Return the XXH3-64 of the bytes of each row of features (N, ...), as (N,) uint64."""
    return checks_of(byte_rows(np.ascontiguousarray(features)))


def checksum(
    shape: tuple[int, ...],
    dtype: np.dtype,
    keys: Iterable[np.ndarray],
    checks: Iterable[np.ndarray],
) -> str:
    """Return the XXH3-128 of a shard in hexadecimal, which covers every row by its check.

    Args:
        shape: (N, D) or (N, V, D), of all features.
        dtype: Type of the features.
        keys: The keys in blocks (B, 32).
        checks: The checks in blocks (B,), see `row_checks`.
    """
    digest = xxhash.xxh3_128(f"{shape} {dtype.str}".encode())
    for blocks in (keys, checks):
        for block in blocks:
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def map_array(
    file: int,
    offset: int,
    dtype: np.dtype,
    count: int,
) -> np.ndarray:
    """Return `count` numbers from a position of an open file on, as a map that lives as long as the array."""
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    skipped = offset - start
    mapped = mmap.mmap(file, skipped + count * dtype.itemsize, access=mmap.ACCESS_READ, offset=start)
    return np.frombuffer(mapped, dtype, count, skipped)


def byte_rows(array: np.ndarray) -> list[memoryview]:
    """Return the bytes of each row of a contiguous array (N, ...), without copies."""
    whole = array.reshape(-1).view(np.uint8).data
    size = array[:1].nbytes
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def checks_of(rows: list[memoryview]) -> np.ndarray:
    """Return the XXH3-64 of the bytes of each row, (N,) uint64."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, rows), np.uint64, len(rows))


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return inode and time of change, which differ for a later file of the same name; None if missing."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return None if error.errno == errno.ENOENT else (0, 0)
    return status.st_ino, status.st_ctime_ns


def reading_error(
    path: Path,
    error: Exception,
    before: tuple[int, int] | None,
) -> TierError:
    """Return the error of a shard for an error of the system or of HDF5.

    Args:
        path: The file.
        error: What happened while it was read.
        before: Its identity before, see `file_identity`.
    """
    # A file that is removed while it is opened fails in several ways, and two compactions may remove and
    # publish one name in turn.
    if before is None or file_identity(path) != before:
        return VanishedShardError(f"{path} no longer exists")
    # HDF5 sets an error number where the system refuses (permission, input and output), and none where the
    # content is wrong.
    if not isinstance(error, OSError) or error.errno is None:
        return damaged(path, shortened(error))
    reason = error.strerror or error
    return UnreadableShardError(
        f"{path} cannot be read ({reason}): fix the cause and run the same command again"
    )


def damaged(path: Path, problem: str) -> ShardError:
    """Return the error of a damaged shard."""
    return ShardError(
        f"{path} is a damaged shard ({problem}).\n"
        "Run `tier store verify --repair`, which renames the shard so that no reader opens it, then "
        "`tier extract`, which encodes the missing inputs again."
    )
