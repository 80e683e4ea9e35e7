"""One shard: an HDF5 file of keys, features and their checks, written once and never opened for writing again.

Every row of the features has its own check (XXH3-64), so that a row read alone is checked alone. The shard's checksum (XXH3-128)
covers the keys and these checks, hence every row; it is compared whenever a shard is opened, and names the file. XXH3 finds accidents:
somebody who changes a shard on purpose would renew any checksum as well.
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
SCATTERED_BYTES = (
    2**19
)  # of rows from here and there in hand at once; what fits the processor's cache is fastest


class ShardError(TierError):
    """A shard is damaged or is not a shard."""


class UnreadableShardError(TierError):
    """The system would not let a shard be read; nothing is known of its content."""


class VanishedShardError(UnreadableShardError):
    """The file is not there any more: a compaction has moved its rows to another shard, or somebody has removed it."""


def row_checks(features: np.ndarray) -> np.ndarray:
    """XXH3-64 of the bytes of each row of (N, ...), as (N,) uint64."""
    return _checks(_byte_rows(np.ascontiguousarray(features)))


def checksum(keys: np.ndarray, checks: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """XXH3-128 over a row's shape and dtype, keys (N, 32) and row checks (N,), in hexadecimal."""
    digest = xxhash.xxh3_128(f"{(len(keys), *shape)} {dtype.str}".encode())
    digest.update(np.ascontiguousarray(keys).data)
    digest.update(np.ascontiguousarray(checks).data)
    return digest.hexdigest()


def write_shard(folder: Path, signature_digest: str, keys: np.ndarray, features: np.ndarray) -> Path:
    """Publish one shard, named by its checksum, so that writing the same rows twice is writing one file.

    Args:
        folder: The store's folder.
        signature_digest: Digest of the store's signature, repeated in the shard.
        keys: (N, 32) uint8.
        features: (N, D) or (N, V, D).

    Raises:
        ShardError: A feature is not finite; a store never holds NaN.
    """
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features.reshape(len(features), -1)).all(axis=1)).sum())
        raise ShardError(
            f"the encoder gave NaN or infinity for {bad} of {len(features)} inputs, nothing of them was stored: check the weights, "
            "and use bf16 where the precision is fp16"
        )
    return write_blocks(
        folder, signature_digest, keys, row_checks(features), features.shape[1:], features.dtype, [features]
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
    """Publish one shard whose features arrive in blocks (B, ...); its name is known before, from keys (N, 32) and row checks (N,)."""
    digest = checksum(keys, checks, shape, dtype)

    def write(path: Path) -> None:
        # Checksums of HDF5's own structures came with 1.10; naming that version keeps the file the same whatever library writes it.
        # Rows that begin with a page of the file are read faster.
        options = {"libver": ("v110", "v110"), "alignment_threshold": 2**16, "alignment_interval": 2**12}
        with _Patient(path, "x+") as raw, h5py.File(raw, "w", **options) as file:
            file.attrs["signature"] = np.bytes_(signature_digest)
            file.attrs["checksum"] = np.bytes_(digest)
            file["keys"] = keys
            file["row_checks"] = checks
            features = file.create_dataset("features", (len(keys), *shape), dtype)
            start = 0
            for block in blocks:
                if raw.refusal:
                    break
                features[start : start + len(block)] = block
                start += len(block)
        if raw.refusal:
            raise raw.refusal

    path = folder / f"{digest[:16]}{SUFFIX}"
    publish(path, write, make_folder=False)  # the folder of a store that was removed is not made again
    return path


class _Patient(FileIO):
    """A file for HDF5, which crashes the process at its end where a write was refused: the first refusal is kept, later writes are lost."""

    refusal: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and not self.refusal:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.refusal = error
        return len(memoryview(data))

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return size or 0


@dataclass(frozen=True)
class Shard:
    """A published shard. Holds no open file: handles do not survive a fork, and there may be thousands of shards.

    Attributes:
        path: The file.
        signature: Digest of the signature of the store that it belongs to.
        checksum: See `checksum`.
        keys: (N, 32) uint8.
        row_checks: (N,) uint64, see `row_checks`.
        shape: Shape of one row of the features, (D,) or (V, D).
        dtype: Type of the features.
        offset: Where the features begin in the file, in bytes; they lie there in one piece.
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
        """Read everything but the features, and compare it with the checksum.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is not there).
            ShardError: The file is not HDF5, lacks something, declares what it does not hold, or is not what was written.
        """
        before = _state(path)
        try:
            # A published shard never changes, so that no lock is needed; shared file systems often have none.
            with h5py.File(path, "r", locking=False) as file:
                keys, checks, features = (_dataset(file, name) for name in ("keys", "row_checks", "features"))
                if keys.dtype != np.uint8 or keys.shape[1:] != (KEY_BYTES,):
                    raise ValueError(f"keys are {keys.dtype} {keys.shape}, expected uint8 (N, {KEY_BYTES})")
                if checks.dtype != np.dtype("<u8") or checks.shape != keys.shape[:1]:
                    raise ValueError(f"row_checks are {checks.dtype} {checks.shape} for {len(keys)} keys")
                if features.ndim < 2 or len(features) != len(keys) or features.dtype.kind != "f":
                    raise ValueError(f"features are {features.dtype} {features.shape} for {len(keys)} keys")
                shard = cls(
                    path=path,
                    signature=_attribute(file, "signature"),
                    checksum=_attribute(file, "checksum"),
                    keys=keys[()],
                    row_checks=checks[()],
                    shape=features.shape[1:],
                    dtype=features.dtype,
                    offset=features.id.get_offset(),
                )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise _failed(path, error, before) from error
        if checksum(shard.keys, shard.row_checks, shard.shape, shard.dtype) != shard.checksum:
            raise _damaged(path, "its keys do not match its checksum")
        return shard

    @property
    def row_bytes(self) -> int:
        """Size of one row of the features."""
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Features of the rows `numbers` (M,) in their order, (M, ...); only these are read, and checked.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is not there).
            ShardError: A row is not what was written.
        """
        out = np.empty((len(numbers), *self.shape), self.dtype)
        self.copy_rows(numbers, out, np.arange(len(numbers)))
        return out

    def copy_rows(self, numbers: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """As `rows`, but into out[places], both (M,), without a second copy of the features in memory."""
        if not len(numbers):
            return
        order = np.argsort(numbers, kind="stable")
        numbers, places = numbers[order], places[order]
        at_once = max(SCATTERED_BYTES // self.row_bytes, 1)
        buffer = np.empty((min(at_once, len(numbers)), *self.shape), self.dtype)
        buffers = _byte_rows(buffer)
        with self._file() as file:
            rows = self._mapped(file)
            for start in range(0, len(numbers), at_once):
                part = numbers[start : start + at_once]
                np.take(
                    rows, part, axis=0, out=buffer[: len(part)], mode="clip"
                )  # "raise" would copy once more
                self._require(np.array_equal(_checks(buffers[: len(part)]), self.row_checks[part]), DIFFERENT)
                out[places[start : start + at_once]] = buffer[: len(part)]

    def _mapped(self, file: int) -> np.ndarray:
        """All features (N, ...) as a map of the file, for reading rows from here and there at the speed of memory."""
        # Touching a map beyond the end of its file would kill the process. A published shard never shrinks; a damaged one is told here.
        self._require(
            os.fstat(file).st_size >= self.offset + len(self.keys) * self.row_bytes, "it ends too early"
        )
        start = self.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        size = self.offset - start + len(self.keys) * self.row_bytes
        mapped = mmap.mmap(file, size, access=mmap.ACCESS_READ, offset=start)
        return np.frombuffer(
            mapped, self.dtype, len(self.keys) * prod(self.shape), self.offset - start
        ).reshape(-1, *self.shape)

    def blocks(self, rows_per_block: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keys (B, 32) and features (B, ...) of all rows in order, checked, in blocks of 4 MiB where no number of rows is given.

        Raises:
            UnreadableShardError: The system refuses to read the file (VanishedShardError: it is not there, told before the first block).
            ShardError: A row of the next block is not what was written.
        """
        size = rows_per_block or max(BLOCK_BYTES // self.row_bytes, 1)
        with self._file() as file:
            for start in range(0, len(self.keys), size):
                keys = self.keys[start : start + size]
                features = np.empty((len(keys), *self.shape), self.dtype)
                whole = features.reshape(-1).view(np.uint8).data
                self._require(
                    os.preadv(file, (whole,), self.offset + start * self.row_bytes) == len(whole),
                    "it ends too early",
                )
                self._require(
                    np.array_equal(row_checks(features), self.row_checks[start : start + size]), DIFFERENT
                )
                yield keys, features

    def _require(self, sound: bool, why: str) -> None:
        if not sound:
            raise _damaged(self.path, why)

    @contextmanager
    def _file(self) -> Iterator[int]:
        before = _state(self.path)
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise _failed(self.path, error, before) from error


DIFFERENT = "a row does not match its checksum"


def _byte_rows(array: np.ndarray) -> list[memoryview]:
    """The bytes of each row of a contiguous (N, ...), not copied."""
    view, size = array.reshape(-1).view(np.uint8).data, array[:1].nbytes
    return [view[start : start + size] for start in range(0, len(view), size)]


def _checks(rows: list[memoryview]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, rows), np.uint64, len(rows))


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    # A link can lead out of the file and external storage can read any file: only plain local datasets are taken.
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no dataset {name!r}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.chunks:
        raise ValueError(f"{name!r} is not a plain dataset")
    # Sizes are only believed where the file has so many bytes at that place, and is no hole there.
    size, offset = dataset.size * dataset.dtype.itemsize, dataset.id.get_offset()
    if (
        not size
        or offset is None
        or dataset.id.get_storage_size() != size
        or offset + size > os.path.getsize(file.filename)
    ):
        raise ValueError(f"{name!r} declares {dataset.shape} but does not hold that many bytes")
    with open(file.filename, "rb") as raw:
        if name == "keys" and raw.seek(offset, os.SEEK_HOLE) < offset + size:
            raise ValueError(f"{name!r} declares {dataset.shape} but is a hole in the file")
    return dataset


def _attribute(file: h5py.File, name: str) -> str:
    # Texts of variable length lie in a heap without checksums, where HDF5 follows one wrong byte forever.
    kind = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
    if kind is None or kind.length is None:
        raise ValueError(f"the attribute {name!r} is not a text of fixed length")
    return bytes(file.attrs[name]).decode("ascii")


def _state(path: Path) -> tuple[int, int] | None:
    """What tells a file from a later one of the same name, None where there is none."""
    try:
        found = os.lstat(path)
    except OSError as error:
        return None if error.errno == errno.ENOENT else (0, 0)
    return found.st_ino, found.st_ctime_ns


def _failed(path: Path, error: Exception, before: tuple[int, int] | None) -> TierError:
    # What is removed while it is being opened fails in several ways, and two compactions may remove and publish one name in turn.
    if before is None or _state(path) != before:
        return VanishedShardError(f"{path} is not there any more")
    # HDF5 sets an error number where the system refused (permission, input and output), and none where the content is wrong.
    if not isinstance(error, OSError) or error.errno is None:
        return _damaged(path, str(error))
    return UnreadableShardError(
        f"{path} cannot be read ({error.strerror or error}): mend the cause and run the same command again"
    )


def _damaged(path: Path, why: str) -> ShardError:
    return ShardError(
        f"{path}: damaged shard ({why}).\n`tier store verify --repair` sets it aside, and `tier extract` then refills the gap."
    )
