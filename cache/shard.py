"""One published shard: keys, features and checks in an HDF5 file.

The checksum is compared whenever a shard is opened, and whenever its keys are read.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np

from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.shard_content import (
    ROW_MISMATCH,
    ROW_NOT_FINITE,
    TOO_SHORT,
    byte_rows,
    checks_of,
    checksum,
    damaged,
    file_identity,
    map_array,
    reading_error,
    row_checks,
)

BLOCK_BYTES = 2**22  # of one sequential read
SCATTERED_BYTES = 2**19  # of scattered rows in memory at once; fastest where they fit the processor's cache
MAPPED_BYTES = 2**24  # larger keys and checks are mapped into memory, not loaded


FEATURE_TYPES = ("<f2", "<f4", "<f8")


@dataclass(frozen=True)
class Shard:
    """A published shard: where its parts are in the file.

    No file stays open, as descriptors must not be shared after a fork, and a store may have thousands of
    shards. Keys and checks are read when they are needed, as all of them may not fit into memory.

    Attributes:
        path: The file.
        signature: Digest of the signature of its store.
        checksum: See `shard_content.checksum`.
        count: Number N of rows.
        shape: Shape of one row of the features, (D,) or (V, D).
        dtype: Type of the features.
        offset: Position of the first byte of the features in the file; they are contiguous.
        keys_offset: The same of the keys.
        checks_offset: The same of the checks.
    """

    path: Path
    signature: str
    checksum: str
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    keys_offset: int
    checks_offset: int

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Find the parts of a file, and compare keys and checks with the checksum.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: The file is not HDF5, lacks a part, declares more than it contains, or was changed.
        """
        before = file_identity(path)
        try:
            shard = cls._parse(path)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise reading_error(path, error, before) from error
        shard.keys_and_checks()
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
                count=len(keys),
                shape=features.shape[1:],
                dtype=features.dtype,
                offset=features.id.get_offset(),
                keys_offset=keys.id.get_offset(),
                checks_offset=checks.id.get_offset(),
            )

    @property
    def keys(self) -> np.ndarray:
        """The keys, (N, 32) uint8."""
        return self.keys_and_checks()[0]

    @property
    def row_checks(self) -> np.ndarray:
        """The checks of the rows, (N,) uint64; see `shard_content.row_checks`."""
        return self.keys_and_checks()[1]

    def keys_and_checks(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the keys (N, 32) and the checks (N,), and compare them with the checksum.

        Many keys are a map of the file, which lives as long as the array.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: The keys or the checks were changed.
        """
        with self._open_file() as file:
            keys = self._array(file, self.keys_offset, np.dtype(np.uint8), self.count * KEY_BYTES)
            checks = self._array(file, self.checks_offset, np.dtype("<u8"), self.count)
        keys = keys.reshape(-1, KEY_BYTES)
        found = checksum((self.count, *self.shape), self.dtype, [keys], [checks])
        self._require_sound(found == self.checksum, "the keys do not match the checksum")
        return keys, checks

    def _array(
        self,
        file: int,
        offset: int,
        dtype: np.dtype,
        count: int,
    ) -> np.ndarray:
        if count * dtype.itemsize >= MAPPED_BYTES:
            self._require_size(file, offset + count * dtype.itemsize)
            return map_array(file, offset, dtype, count)
        values = np.empty(count, dtype)
        self._read_into(file, offset, values)
        return values

    @property
    def row_bytes(self) -> int:
        """Size of one row of the features in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def copy_rows(
        self,
        numbers: np.ndarray,
        checks: np.ndarray,
        out: np.ndarray,
        places: np.ndarray,
    ) -> None:
        """Copy features of rows into out[places], without a second copy of all features in memory.

        Args:
            numbers: (M,) indices of the rows to read.
            checks: (M,) checks of these rows, see `row_checks`.
            out: Array (..., *shape) that receives the features.
            places: (M,) positions in `out`.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: A row was changed, or a feature is not finite.
        """
        if not len(numbers):
            return
        order = np.argsort(numbers, kind="stable")
        numbers, checks, places = numbers[order], checks[order], places[order]
        at_once = max(SCATTERED_BYTES // self.row_bytes, 1)
        buffer = np.empty((min(at_once, len(numbers)), *self.shape), self.dtype)
        buffer_rows = byte_rows(buffer)
        with self._open_file() as file:
            features = self._memory_map(file)
            for start in range(0, len(numbers), at_once):
                part = slice(start, start + at_once)
                block = buffer[: len(numbers[part])]
                np.take(
                    features, numbers[part], axis=0, out=block, mode="clip"
                )  # "raise" makes one more copy
                found = checks_of(buffer_rows[: len(block)])
                self._require_sound(np.array_equal(found, checks[part]), ROW_MISMATCH)
                self._require_sound(bool(np.isfinite(block).all()), ROW_NOT_FINITE)
                out[places[part]] = block

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return features (M, ...) of the rows `numbers` (M,); only these rows are read and checked.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is missing).
            ShardError: A row was changed, or a feature is not finite.
        """
        out = np.empty((len(numbers), *self.shape), self.dtype)
        self.copy_rows(numbers, self.row_checks[numbers], out, np.arange(len(numbers)))
        return out

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
        all_keys, all_checks = self.keys_and_checks()
        with self._open_file() as file:
            for start in range(0, self.count, size):
                keys = np.array(all_keys[start : start + size])  # the caller may keep them, but no map
                features = self._read_block(file, start, len(keys))
                checks = row_checks(features)
                expected = all_checks[start : start + size]
                self._require_sound(np.array_equal(checks, expected), ROW_MISMATCH)
                self._require_sound(bool(np.isfinite(features).all()), ROW_NOT_FINITE)
                yield keys, features

    def _memory_map(self, file: int) -> np.ndarray:
        """Return all features (N, ...) as a map of the file, which makes reading scattered rows fast."""
        size = self.count * self.row_bytes
        self._require_size(file, self.offset + size)
        values = map_array(file, self.offset, self.dtype, self.count * prod(self.shape))
        return values.reshape(-1, *self.shape)

    def _read_block(
        self,
        file: int,
        start: int,
        count: int,
    ) -> np.ndarray:
        features = np.empty((count, *self.shape), self.dtype)
        self._read_into(file, self.offset + start * self.row_bytes, features)
        return features

    def _read_into(
        self,
        file: int,
        offset: int,
        values: np.ndarray,
    ) -> None:
        target = values.reshape(-1).view(np.uint8).data
        read = os.preadv(file, (target,), offset)
        self._require_sound(read == len(target), TOO_SHORT)

    def _require_size(self, file: int, size: int) -> None:
        # Access beyond the end of a mapped file kills the process. A published shard never shrinks, so
        # the size is compared once.
        self._require_sound(os.fstat(file).st_size >= size, TOO_SHORT)

    def _require_sound(self, sound: bool, problem: str) -> None:
        if not sound:
            raise damaged(self.path, problem)

    @contextmanager
    def _open_file(self) -> Iterator[int]:
        """Open the file, yield its descriptor and close it; turn errors of the system into shard errors."""
        before = file_identity(self.path)
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise reading_error(self.path, error, before) from error


def _require_layout(
    keys: h5py.Dataset,
    checks: h5py.Dataset,
    features: h5py.Dataset,
) -> None:
    if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
        raise ValueError(f"keys are {keys.dtype} {keys.shape}, expected uint8 (N, {KEY_BYTES})")
    if checks.dtype != np.dtype("<u8") or checks.shape != keys.shape[:1]:
        raise ValueError(f"row_checks are {checks.dtype} {checks.shape} for {len(keys)} keys")
    if features.ndim not in (2, 3) or len(features) != len(keys) or features.dtype.str not in FEATURE_TYPES:
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
