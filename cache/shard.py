"""One shard: an HDF5 file of keys (N, 32), features (N, ...) and a checksum, written once and never opened for writing again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cache.atomic import publish
from cache.errors import TierError
from cache.keys import KEY_BYTES

SUFFIX = ".h5"


class ShardError(TierError):
    """A shard is damaged or is not a shard."""


class UnreadableShardError(TierError):
    """The system would not let a shard be read; nothing is known of its content."""


def checksum(keys: np.ndarray, features: np.ndarray) -> str:
    """SHA-256 over shape, dtype, keys and features, in hexadecimal."""
    digest = hashlib.sha256(f"{features.shape} {features.dtype.str}".encode())
    digest.update(np.ascontiguousarray(keys).data)
    digest.update(np.ascontiguousarray(features).data)
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
            f"the encoder gave NaN or infinity for {bad} of {len(features)} inputs, nothing of them was stored: check the weights"
        )
    digest = checksum(keys, features)

    def write(path: Path) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            file.attrs["signature"] = np.bytes_(signature_digest)
            file.attrs["checksum"] = np.bytes_(digest)
            file["keys"] = keys
            file["features"] = features

    path = folder / f"{digest[:16]}{SUFFIX}"
    publish(path, write)
    return path


@dataclass(frozen=True)
class Shard:
    """A published shard. Holds no open file: HDF5 handles do not survive a fork."""

    path: Path
    signature: str
    keys: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    checksum: str

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Read everything but the features.

        Raises:
            UnreadableShardError: The system refuses to read the file.
            ShardError: The file is not HDF5, or lacks a dataset or an attribute, or its shapes do not fit each other.
        """
        try:
            with _opened(path) as file:
                keys, features = _dataset(file, "keys"), _dataset(file, "features")
                if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
                    raise ValueError(f"keys are {keys.dtype} {keys.shape}, expected uint8 (N, {KEY_BYTES})")
                if features.ndim < 2 or len(features) != len(keys) or features.dtype.kind != "f":
                    raise ValueError(f"features are {features.dtype} {features.shape} for {len(keys)} keys")
                attributes = {name: _attribute(file, name) for name in ("signature", "checksum")}
                return cls(path=path, keys=keys[()], shape=features.shape[1:], dtype=features.dtype, **attributes)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise _failed(path, error) from error

    def read(self) -> np.ndarray:
        """All features of the shard, (N, ...), checked against the checksum.

        Raises:
            UnreadableShardError: The system refuses to read the file.
            ShardError: The content is not what was written.
        """
        try:
            with _opened(self.path) as file:
                features = _dataset(file, "features")[()]
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise _failed(self.path, error) from error
        if checksum(self.keys, features) != self.checksum:
            raise _damaged(self.path, "its content does not match its checksum")
        return features


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    # A link can lead out of the file and external storage can read any file: only plain local datasets are taken.
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no dataset {name!r}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name!r} is not a plain dataset")
    if dataset.id.get_storage_size() != dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"{name!r} declares {dataset.shape} but does not hold that many bytes")
    return dataset


def _attribute(file: h5py.File, name: str) -> str:
    # Texts of variable length lie in a heap without checksums, where HDF5 follows one wrong byte forever.
    kind = h5py.check_string_dtype(file.attrs.get_id(name).dtype)
    if kind is None or kind.length is None:
        raise ValueError(f"the attribute {name!r} is not a text of fixed length")
    return bytes(file.attrs[name]).decode("ascii")


def _opened(path: Path) -> h5py.File:
    # A published shard never changes, so that no lock is needed; shared file systems often have none.
    return h5py.File(path, "r", locking=False)


def _failed(path: Path, error: Exception) -> TierError:
    # HDF5 sets an error number where the system refused (permission, input and output), and none where the content is wrong.
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableShardError(f"{path} cannot be read ({error.strerror or error}): mend the cause and run the same command again")
    return _damaged(path, str(error))


def _damaged(path: Path, why: str) -> ShardError:
    return ShardError(
        f"{path}: damaged shard ({why}).\n`tier store verify --repair` sets it aside, and `tier extract` then refills the gap."
    )
