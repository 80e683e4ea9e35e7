"""Writing of one shard: an HDF5 file of keys, features and checks, never opened for writing again.

The checksum of the shard is the name of the file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tier4k.cache.atomic import publish_beside
from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.shard_content import ShardError, checksum, row_checks

SUFFIX = ".h5"
# Checksums of HDF5's own structures came with version 1.10. A fixed version keeps the file the same whichever
# library writes it. Datasets of 64 KiB and more begin with a page of the file, which makes reading faster.
FILE_OPTIONS = {
    "libver": ("v110", "v110"),
    "alignment_threshold": 2**16,
    "alignment_interval": 2**12,
}


@dataclass(frozen=True)
class NewRows:
    """The rows of a shard to write, in blocks that are asked for one at a time, and keys and checks twice.

    Attributes:
        count: Number N of rows.
        shape: Shape of one row of the features, (D,) or (V, D).
        dtype: Type of the features.
        keys: Returns the keys, blocks (B, 32) uint8.
        checks: Returns the checks, blocks (B,) uint64, see `row_checks`.
        features: Returns the features, blocks (B, ...).
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype
    keys: Callable[[], Iterable[np.ndarray]]
    checks: Callable[[], Iterable[np.ndarray]]
    features: Callable[[], Iterable[np.ndarray]]

    @classmethod
    def of(
        cls,
        keys: np.ndarray,
        checks: np.ndarray,
        features: np.ndarray,
    ) -> "NewRows":
        """Return rows that are in memory: keys (N, 32), checks (N,) and features (N, ...)."""
        return cls(
            len(keys),
            features.shape[1:],
            features.dtype,
            lambda: [keys],
            lambda: [checks],
            lambda: [features],
        )

    def checksum(self) -> str:
        """Return the checksum of the shard."""
        return checksum((self.count, *self.shape), self.dtype, self.keys(), self.checks())


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
    return write_blocks(folder, signature_digest, NewRows.of(keys, row_checks(features), features))


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
    rows: NewRows,
) -> Path:
    """Publish one shard whose rows arrive in blocks.

    The name follows from keys and checks, before the first features arrive.

    Args:
        folder: The store's folder, which must exist: the folder of a removed store is not made again.
        signature_digest: Digest of the store's signature, repeated in the shard.
        rows: Keys, checks and features.

    Raises:
        OSError: The system refuses to write.
    """
    digest = rows.checksum()

    def write(path: Path) -> None:
        """Write the complete file."""
        with _DeferredErrorFile(path, "x+") as raw, h5py.File(raw, "w", **FILE_OPTIONS) as file:
            file.attrs["signature"] = np.bytes_(signature_digest)
            file.attrs["checksum"] = np.bytes_(digest)
            # These two get their names last: the order is visible in the file.
            file["keys"] = _fill(file.create_dataset(None, (rows.count, KEY_BYTES), np.uint8), rows.keys, raw)
            file["row_checks"] = _fill(file.create_dataset(None, rows.count, np.uint64), rows.checks, raw)
            shape = (rows.count, *rows.shape)
            _fill(file.create_dataset("features", shape, rows.dtype), rows.features, raw)
        if raw.error:
            raise raw.error

    path = folder / f"{digest[:16]}{SUFFIX}"
    publish_beside(path, write)
    return path


def _fill(
    dataset: h5py.Dataset,
    blocks: Callable[[], Iterable[np.ndarray]],
    raw: "_DeferredErrorFile",
) -> h5py.Dataset:
    start = 0
    for block in blocks():
        if raw.error:
            break
        stop = start + len(block)
        dataset[start:stop] = block
        start = stop
    return dataset


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
