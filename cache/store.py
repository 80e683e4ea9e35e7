"""The feature store: a folder of shards of one signature, read by key."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.errors import StoreError
from tier4k.cache.index import Index
from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.shard import SUFFIX, Shard, VanishedShardError
from tier4k.cache.signature import SIGNATURE_FILE, Signature, SignatureError
from tier4k.cache.text import read_text
from tier4k.cache.write_errors import explain_store_write_errors
from tier4k.cache.writer import SHARD_ROWS, ShardWriter


@dataclass(frozen=True)
class FeatureStore:
    """The published shards of one signature, as listed at the first access.

    If a compaction removes a shard during reading, the store lists its folder again and continues.

    Attributes:
        path: Folder of the store.
        signature: Description of how the features were made.
        versions: Library versions when the store was created; recorded, but never compared.
    """

    path: Path
    signature: Signature
    versions: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open an existing store.

        Raises:
            StoreError: signature.json is missing or unreadable.
            SignatureError: signature.json does not belong to this folder.
        """
        try:
            record = json.loads(read_text(path / SIGNATURE_FILE))
            signature = Signature.from_dict(record["signature"])
            versions = dict(record["versions"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a feature store: {SIGNATURE_FILE} cannot be read ({error})"
            ) from error
        if not path.resolve().name.endswith(signature.digest):
            raise SignatureError(
                f"{path / SIGNATURE_FILE} was changed: it describes a store whose name ends in "
                f"{signature.digest}.\nRestore the file, or delete the folder and extract again."
            )
        return cls(path, signature, versions)

    @classmethod
    def create(
        cls,
        root: Path,
        signature: Signature,
        versions: Mapping[str, str],
    ) -> "FeatureStore":
        """Open the store of `signature` under `root`; make the store first if it does not exist.

        Its signature.json gets the present time, so that `tier store gc` counts the store as used.

        Raises:
            StoreError: The store cannot be written or read.
            SignatureError: The folder contains a store of another signature.
        """
        path = root / signature.folder_name
        if not (path / SIGNATURE_FILE).exists():
            record = {"signature": asdict(signature), "versions": dict(versions)}
            with explain_store_write_errors(path):
                publish_text(path / SIGNATURE_FILE, json.dumps(record, indent=2) + "\n")
        store = cls.open(path)
        store.signature.require(signature, f"Delete {path} and extract again.")
        with suppress(OSError):  # the file of another user
            os.utime(path / SIGNATURE_FILE)
        return store

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The published shards in the order of their names.

        Raises:
            ShardError: A shard is damaged.
            SignatureError: A shard was copied here from another store.
        """
        shards = self._open_shards()
        for shard in shards:
            self.require_member(shard)
            _require_same_shape(shard, shards[0])
        return shards

    def _open_shards(self) -> tuple[Shard, ...]:
        while True:
            with suppress(VanishedShardError):
                return tuple(map(Shard.open, self.files()))

    def files(self) -> list[Path]:
        """Return the files of the published shards, sound or damaged, in the order of their names."""
        # During a compaction, a listing may miss both the new shard and some of the old shards. If two
        # listings in turn are equal, they are complete.
        previous_files = None
        files = self._list_files()
        while files != previous_files:
            previous_files = files
            files = self._list_files()
        return files

    def _list_files(self) -> list[Path]:
        return sorted(self.path.glob(f"[!.]*{SUFFIX}"))  # ._NAME is a leaving of macOS on a share

    @cached_property
    def index(self) -> Index:
        """Shard and row of each key."""
        return Index.from_shards(self.shards)

    @property
    def keys(self) -> np.ndarray:
        """The distinct keys of the store, (N, 32) uint8 in order."""
        distinct = self.index.keys[self.index.distinct()]
        return distinct.view(np.uint8).reshape(-1, KEY_BYTES)

    @property
    def width(self) -> int:
        """Length D of a feature vector.

        Raises:
            StoreError: The store is empty.
        """
        if not self.shards:
            raise StoreError(f"the store {self.path} is empty: run `tier extract` first")
        return self.shards[0].shape[-1]

    def hexadecimal_keys(self) -> frozenset[str]:
        """Return the distinct keys, each as 64 hexadecimal digits."""
        return frozenset(bytes(key).hex() for key in self.keys)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return whether each of the keys (M, 32) is stored, (M,) bool."""
        return self.index.find(keys) >= 0

    def coverage(self, keys: np.ndarray) -> tuple[int, int]:
        """Return how many of the keys (M, 32) are stored, and M."""
        stored = int(self.holds(keys).sum())
        return stored, len(keys)

    def read(self, keys: np.ndarray) -> np.ndarray:
        """Return features (M, D) or (M, V, D) of keys (M, 32); only their rows are read and checked.

        Raises:
            StoreError: Some keys are not stored.
            ShardError: The stored features of a key are damaged.
        """
        while True:
            try:
                return self.read_positions(self._require_positions(keys))
            except VanishedShardError:
                self._reload()

    def read_positions(self, positions: np.ndarray) -> np.ndarray:
        """Return features (M, ...) at positions (M,) of the index, without a second try.

        Raises:
            VanishedShardError: A compaction removed a shard.
            ShardError: A row at the positions is damaged.
        """
        shard = self.index.shard[positions]
        row = self.index.row[positions]
        features = np.empty((len(positions), *self.shards[0].shape), self.shards[0].dtype)
        order = np.argsort(shard, kind="stable")
        shard_indices, starts = np.unique(shard[order], return_index=True)
        places_of_shards = np.split(order, starts)[1:]
        for index, places in zip(shard_indices, places_of_shards, strict=True):
            self.shards[index].copy_rows(row[places], features, places)
        return features

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys (B, 32) and features (B, ...) of every shard in turn, in bounded memory.

        A key that several shards contain is yielded several times.

        Raises:
            StoreError: The store was removed during reading.
            ShardError: A row of the next block is damaged.
        """
        shards_read: list[Shard] = []
        while True:
            earlier = Index.from_shards(shards_read)  # empty unless the folder was listed again
            try:
                for shard in self.shards:
                    yield from _blocks_without(earlier, shard)
                    shards_read.append(shard)
                return
            except VanishedShardError:
                self._reload()

    def _require_positions(self, keys: np.ndarray) -> np.ndarray:
        positions = self.index.find(keys)
        missing_count = int((positions < 0).sum())
        if missing_count:
            raise StoreError(
                f"{missing_count} of {len(keys)} inputs are not in {self.path}: "
                f"run `{self._filling_command()}` on this data first"
            )
        if not self.shards:
            raise StoreError(f"the store {self.path} is empty: run `tier extract` first")
        return positions

    def _filling_command(self) -> str:
        if self.signature.stream == "score":
            return f"tier score --scorer {self.signature.encoder}"
        return "tier extract"

    def _reload(self) -> None:
        if not (self.path / SIGNATURE_FILE).exists():
            raise StoreError(f"the store {self.path} was removed while it was read: run `tier extract` again")
        cached = vars(self)  # cached_property keeps its values there
        cached.pop("shards", None)
        cached.pop("index", None)

    def writer(self, shard_rows: int = SHARD_ROWS) -> ShardWriter:
        """Return a context for adding rows. Its end, even by an error, publishes the remaining rows."""
        return ShardWriter(self.path, self.signature, shard_rows)

    def require_member(self, shard: Shard) -> None:
        """Refuse a shard of another store or of another dtype.

        Raises:
            SignatureError: The signature or the dtype differs.
        """
        if shard.signature != self.signature.digest:
            raise SignatureError(
                f"{shard.path} belongs to the signature {shard.signature}, but its store has the signature "
                f"{self.signature.digest}: move the file back to its own store"
            )
        if shard.dtype != np.dtype(self.signature.dtype):
            raise SignatureError(
                f"{shard.path} contains {shard.dtype}, but its store requires {self.signature.dtype}: run "
                "`tier store verify --repair`, which renames the shard so that no reader opens it"
            )


def _require_same_shape(shard: Shard, first: Shard) -> None:
    if shard.shape != first.shape:
        raise SignatureError(
            f"{shard.path} contains rows of shape {shard.shape}, but {first.path} rows of shape "
            f"{first.shape}: run `tier store verify --repair`, which renames the shard with the rarer shape "
            "so that no reader opens it"
        )


def _blocks_without(earlier: Index, shard: Shard) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the blocks of a shard, without rows whose keys are in `earlier`."""
    for keys, features in shard.blocks():
        is_new = earlier.find(keys) < 0
        if is_new.all():
            yield keys, features
        elif is_new.any():
            yield keys[is_new], features[is_new]
