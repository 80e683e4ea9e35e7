"""One shard: an HDF5 file of keys, features and checks, written once and never opened for writing again.

Every row of the features has a separate check (XXH3-64), so that a single row can be read and verified. The
checksum of the shard (XXH3-128) covers the keys and the checks, hence every row. The checksum is compared
whenever a shard is opened, and is the name of the file. XXH3 detects accidents only: a person who changes a
shard on purpose can also write a new checksum.
"""

import errno
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from tier4k.cache.atomic import publish
from tier4k.cache.errors import TierError
from tier4k.cache.keys import KEY_BYTES

SUFFIX = ".h5"
BLOCK_BYTES = 2**22  # of one sequential read
SCATTERED_BYTES = 2**19  # of scattered rows in memory at once; fastest where they fit the processor's cache
# Checksums of HDF5's own structures came with version 1.10. A fixed version keeps the file the same whichever
# library writes it. Datasets of 64 KiB and more begin with a page of the file, which makes reading faster.
FILE_OPTIONS = {
    "libver": ("v110", "v110"),
    "alignment_threshold": 2**16,
    "alignment_interval": 2**12,
}
TOO_SHORT = "the file ends too early"
ROW_MISMATCH = "a row does not match its checksum"


class ShardError(TierError):
    """A shard is damaged or is not a shard."""


class UnreadableShardError(TierError):
    """The system refuses to read a shard; its content may be sound."""


class VanishedShardError(UnreadableShardError):
    """The file no longer exists: a compaction moved its rows to another shard, or a user removed it."""


def row_checks(features: np.ndarray) -> np.ndarray:
    """Return the XXH3-64 of the bytes of each row of features (N, ...), as (N,) uint64."""
    return _checks(_byte_rows(np.ascontiguousarray(features)))


def checksum(
    keys: np.ndarray,
    checks: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> str:
    """Return the XXH3-128 of shape, dtype, keys (N, 32) and row checks (N,), in hexadecimal."""
    whole_shape = (len(keys), *shape)
    digest = xxhash.xxh3_128(f"{whole_shape} {dtype.str}".encode())
    digest.update(np.ascontiguousarray(keys).data)
    digest.update(np.ascontiguousarray(checks).data)
    return digest.hexdigest()


def write_shard(
    folder: Path,
    signature_digest: str,
    keys: np.ndarray,
    features: np.ndarray,
) -> Path:
    """Publish one shard. The name is the checksum, so equal rows that are written twice give one file.

    Args:
        folder: The store's folder.
        signature_digest: Digest of the store's signature, repeated in the shard.
        keys: (N, 32) uint8.
        features: (N, D) or (N, V, D).

    Raises:
        ShardError: A feature is not finite; a store never contains NaN.
        OSError: The system refuses to write.
    """
    _require_finite(features)
    return write_blocks(
        folder,
        signature_digest,
        keys,
        row_checks(features),
        features.shape[1:],
        features.dtype,
        [features],
    )


def _require_finite(features: np.ndarray) -> None:
    finite = np.isfinite(features)
    if finite.all():
        return
    finite_rows = finite.reshape(len(features), -1).all(axis=1)
    bad = int((~finite_rows).sum())
    raise ShardError(
        f"the encoder gave NaN or infinity for {bad} of {len(features)} inputs, so none of the "
        f"{len(features)} was stored: check the weights, and pass --precision bf16 instead of fp16"
    )


def write_blocks(
    folder: Path,
    signature_digest: str,
    keys: np.ndarray,
    checks: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype,
    blocks: Iterable[np.ndarray],
) -> Path:
    """Publish one shard whose features arrive in blocks.

    Args:
        folder: The store's folder, which must exist: the folder of a removed store is not made again.
        signature_digest: Digest of the store's signature, repeated in the shard.
        keys: (N, 32) uint8.
        checks: (N,) uint64, see `row_checks`. The name follows from keys and checks, before features arrive.
        shape: Shape of one row of the features, (D,) or (V, D).
        dtype: Type of the features.
        blocks: The features in order, each (B, ...).

    Raises:
        OSError: The system refuses to write.
    """
    digest = checksum(keys, checks, shape, dtype)

    def write(path: Path) -> None:
        """Write the complete file."""
        with _DeferredErrorFile(path, "x+") as raw, h5py.File(raw, "w", **FILE_OPTIONS) as file:
            file.attrs["signature"] = np.bytes_(signature_digest)
            file.attrs["checksum"] = np.bytes_(digest)
            file["keys"] = keys
            file["row_checks"] = checks
            features = file.create_dataset("features", (len(keys), *shape), dtype)
            _fill(features, blocks, raw)
        if raw.error:
            raise raw.error

    path = folder / f"{digest[:16]}{SUFFIX}"
    publish(path, write, create_parent=False)
    return path


def _fill(
    features: h5py.Dataset,
    blocks: Iterable[np.ndarray],
    raw: "_DeferredErrorFile",
) -> None:
    start = 0
    for block in blocks:
        if raw.error:
            return
        stop = start + len(block)
        features[start:stop] = block
        start = stop


class _DeferredErrorFile(FileIO):
    """A file that keeps its first error and ignores later writes.

    HDF5 crashes the process at exit if a write fails. With this class, HDF5 does not notice the failure.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or keep the error; return the number of bytes either way."""
        rest = memoryview(data)
        try:
            while rest and not self.error:
                written = super().write(rest)
                rest = rest[written:]
        except OSError as error:
            self.error = error
        return len(memoryview(data))

    def truncate(self, size: int | None = None) -> int:
        """Change the size, or keep the error; return the size either way."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@dataclass(frozen=True)
class Shard:
    """A published shard.

    No file stays open, as descriptors must not be shared after a fork, and a store may have thousands of
    shards.

    Attributes:
        path: The file.
        signature: Digest of the signature of its store.
        checksum: See `checksum`.
        keys: (N, 32) uint8.
        row_checks: (N,) uint64, see `row_checks`.
        shape: Shape of one row of the features, (D,) or (V, D).
        dtype: Type of the features.
        offset: Position of the first byte of the features in the file; they are contiguous.
    """

    path: Path
    signature: str
    checksum: str
    keys: np.ndarray
    row_checks: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Read everything except the features, and compare the content with the checksum.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: The file is not HDF5, lacks a part, declares more than it contains, or was changed.
        """
        before = _file_identity(path)
        try:
            shard = cls._parse(path)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise _reading_error(path, error, before) from error
        if checksum(shard.keys, shard.row_checks, shard.shape, shard.dtype) != shard.checksum:
            raise _damaged(path, "the keys do not match the checksum")
        return shard

    @classmethod
    def _parse(cls, path: Path) -> "Shard":
        # A published shard never changes, so no lock is needed. Shared file systems often have none.
        with h5py.File(path, "r", locking=False) as file:
            keys = _dataset(file, "keys")
            checks = _dataset(file, "row_checks")
            features = _dataset(file, "features")
            _require_layout(keys, checks, features)
            return cls(
                path=path,
                signature=_attribute(file, "signature"),
                checksum=_attribute(file, "checksum"),
                keys=keys[()],
                row_checks=checks[()],
                shape=features.shape[1:],
                dtype=features.dtype,
                offset=features.id.get_offset(),
            )

    @property
    def row_bytes(self) -> int:
        """Size of one row of the features in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return features (M, ...) of the rows `numbers` (M,); only these rows are read and checked.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: A row was changed.
        """
        out = np.empty((len(numbers), *self.shape), self.dtype)
        self.copy_rows(numbers, out, np.arange(len(numbers)))
        return out

    def copy_rows(
        self,
        numbers: np.ndarray,
        out: np.ndarray,
        places: np.ndarray,
    ) -> None:
        """Copy features of rows into out[places], without a second copy of all features in memory.

        Args:
            numbers: (M,) indices of the rows to read.
            out: Array (..., *shape) that receives the features.
            places: (M,) positions in `out`.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: A row was changed.
        """
        if not len(numbers):
            return
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        places = places[order]
        at_once = max(SCATTERED_BYTES // self.row_bytes, 1)
        buffer = np.empty((min(at_once, len(numbers)), *self.shape), self.dtype)
        buffer_rows = _byte_rows(buffer)
        with self._open_file() as file:
            features = self._memory_map(file)
            for start in range(0, len(numbers), at_once):
                part = numbers[start : start + at_once]
                block = buffer[: len(part)]
                np.take(features, part, axis=0, out=block, mode="clip")  # "raise" makes one more copy
                checks = _checks(buffer_rows[: len(part)])
                self._require_sound(np.array_equal(checks, self.row_checks[part]), ROW_MISMATCH)
                out[places[start : start + at_once]] = block

    def _memory_map(self, file: int) -> np.ndarray:
        """Return all features (N, ...) as a map of the file, which makes reading scattered rows fast."""
        size = len(self.keys) * self.row_bytes
        # Access beyond the end of a mapped file kills the process. A published shard never shrinks, so
        # the size is compared once.
        self._require_sound(os.fstat(file).st_size >= self.offset + size, TOO_SHORT)
        start = self.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        skipped = self.offset - start
        mapped = mmap.mmap(file, skipped + size, access=mmap.ACCESS_READ, offset=start)
        values = np.frombuffer(mapped, self.dtype, len(self.keys) * prod(self.shape), skipped)
        return values.reshape(-1, *self.shape)

    def blocks(self, rows_per_block: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys (B, 32) and checked features (B, ...) of all rows, in order.

        Args:
            rows_per_block: Number B of rows in a block; None uses as many rows as fit into 4 MiB.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing,
                which is noticed before the first block).
            ShardError: A row of the next block was changed.
        """
        size = rows_per_block or max(BLOCK_BYTES // self.row_bytes, 1)
        with self._open_file() as file:
            for start in range(0, len(self.keys), size):
                keys = self.keys[start : start + size]
                features = self._read_block(file, start, len(keys))
                checks = row_checks(features)
                expected = self.row_checks[start : start + size]
                self._require_sound(np.array_equal(checks, expected), ROW_MISMATCH)
                yield keys, features

    def _read_block(
        self,
        file: int,
        start: int,
        count: int,
    ) -> np.ndarray:
        features = np.empty((count, *self.shape), self.dtype)
        target = features.reshape(-1).view(np.uint8).data
        read = os.preadv(file, (target,), self.offset + start * self.row_bytes)
        self._require_sound(read == len(target), TOO_SHORT)
        return features

    def _require_sound(self, sound: bool, problem: str) -> None:
        if not sound:
            raise _damaged(self.path, problem)

    @contextmanager
    def _open_file(self) -> Iterator[int]:
        """Open the file, yield its descriptor and close it; turn errors of the system into shard errors."""
        before = _file_identity(self.path)
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise _reading_error(self.path, error, before) from error


def _byte_rows(array: np.ndarray) -> list[memoryview]:
    """Return the bytes of each row of a contiguous array (N, ...), without copies."""
    whole = array.reshape(-1).view(np.uint8).data
    size = array[:1].nbytes
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _checks(rows: list[memoryview]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, rows), np.uint64, len(rows))


def _require_layout(
    keys: h5py.Dataset,
    checks: h5py.Dataset,
    features: h5py.Dataset,
) -> None:
    if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
        raise ValueError(f"keys are {keys.dtype} {keys.shape}, expected uint8 (N, {KEY_BYTES})")
    if checks.dtype != np.dtype("<u8") or checks.shape != keys.shape[:1]:
        raise ValueError(f"row_checks are {checks.dtype} {checks.shape} for {len(keys)} keys")
    if features.ndim < 2 or len(features) != len(keys) or features.dtype.kind != "f":
        raise ValueError(f"features are {features.dtype} {features.shape} for {len(keys)} keys")


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    # A link can lead out of the file, and external storage can read any file: only plain local datasets
    # are accepted.
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"there is no dataset {name!r}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.chunks:
        raise ValueError(f"{name!r} is not a plain dataset")
    # The declared size is accepted only if the file has that many bytes at that position.
    size = dataset.size * dataset.dtype.itemsize
    offset = dataset.id.get_offset()
    if not size or offset is None or not _is_stored(dataset, file, offset + size):
        raise ValueError(
            f"{name!r} declares the shape {dataset.shape}, but the file contains fewer bytes than that"
        )
    if name == "keys" and _has_hole(file, offset, size):
        raise ValueError(f"{name!r} declares the shape {dataset.shape}, but is a hole in the file")
    return dataset


def _is_stored(
    dataset: h5py.Dataset,
    file: h5py.File,
    end: int,
) -> bool:
    size = dataset.size * dataset.dtype.itemsize
    return dataset.id.get_storage_size() == size and end <= os.path.getsize(file.filename)


def _has_hole(
    file: h5py.File,
    offset: int,
    size: int,
) -> bool:
    with open(file.filename, "rb") as raw:
        return raw.seek(offset, os.SEEK_HOLE) < offset + size


def _attribute(file: h5py.File, name: str) -> str:
    # Texts of variable length are stored in a heap without checksums, where one wrong byte makes HDF5
    # loop forever.
    kind = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
    if kind is None or kind.length is None:
        raise ValueError(f"the attribute {name!r} is not a text of fixed length")
    return bytes(file.attrs[name]).decode("ascii")


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Return inode and time of change, which differ for a later file of the same name; None if missing."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return None if error.errno == errno.ENOENT else (0, 0)
    return status.st_ino, status.st_ctime_ns


def _reading_error(
    path: Path,
    error: Exception,
    before: tuple[int, int] | None,
) -> TierError:
    # A file that is removed while it is opened fails in several ways, and two compactions may remove and
    # publish one name in turn.
    if before is None or _file_identity(path) != before:
        return VanishedShardError(f"{path} no longer exists")
    # HDF5 sets an error number where the system refuses (permission, input and output), and none where the
    # content is wrong.
    if not isinstance(error, OSError) or error.errno is None:
        return _damaged(path, str(error))
    reason = error.strerror or error
    return UnreadableShardError(
        f"{path} cannot be read ({reason}): fix the cause and run the same command again"
    )


def _damaged(path: Path, problem: str) -> ShardError:
    return ShardError(
        f"{path} is a damaged shard ({problem}).\n"
        "Run `tier store verify --repair`, which renames the shard so that no reader opens it, then "
        "`tier extract`, which encodes the missing inputs again."
    )
