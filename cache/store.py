"""The feature store: a folder of shards of one signature, read by key."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.errors import StoreError
from tier4k.cache.index import Index, IndexSource
from tier4k.cache.new_shard import SUFFIX
from tier4k.cache.records import NOWHERE
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import ShardError, VanishedShardError
from tier4k.cache.signature import GIVEN_SCORES, SIGNATURE_FILE, Signature, SignatureError
from tier4k.cache.text import read_text
from tier4k.cache.write_errors import explain_store_write_errors
from tier4k.cache.writer import SHARD_ROWS, ShardWriter

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class FeatureStore:
    """The published shards of one signature, as listed at the first access.

    If a compaction removes a shard during reading, the store lists its folder again and continues. A pickled
    store does so too.

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
    def index(self) -> Index:
        """Shard and row of each key.

        Raises:
            ShardError: A shard is damaged.
            SignatureError: A shard was copied here from another store.
        """
        return self._open_index()

    def complete_index(self) -> Index:
        """Return the index as one sorted run: shards that an index file does not name are added to it."""
        index = self._open_index(as_one_run=True)
        vars(self)["index"] = index
        return index

    def _open_index(self, as_one_run: bool = False) -> Index:
        while True:
            with suppress(VanishedShardError):
                return self._index_source.open(self.files(), as_one_run)

    @property
    def _index_source(self) -> IndexSource:
        return IndexSource(self.path, self.signature.digest, self.require_member)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The features of the published shards."""
        return self.index.shards

    def files(self) -> list[Path]:
        """Return the files of the published shards, sound or damaged, in the order of their names.

        Raises:
            StoreError: The system refuses to list the folder.
        """
        # During a compaction, a listing may miss both the new shard and some of the old shards. If two
        # listings in turn are equal, they are complete.
        previous_names = None
        names = self._list_names()
        while names != previous_names:
            previous_names = names
            names = self._list_names()
        return [self.path / name for name in names]

    def _list_names(self) -> list[str]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"{self.path} cannot be listed ({reason}): fix the cause and run again"
            ) from error
        # macOS leaves files ._NAME on network shares.
        return sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))

    @property
    def keys(self) -> np.ndarray:
        """The distinct keys of the store, (N, 32) uint8 in order, all in memory."""
        return self._ask(Index.keys)

    @property
    def rows(self) -> int:
        """Number of distinct keys."""
        return self._ask(lambda index: index.distinct)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row, (D,) or (V, D).

        Raises:
            StoreError: The store is empty.
        """
        return self._first_shard.shape

    @property
    def width(self) -> int:
        """Length D of a feature vector.

        Raises:
            StoreError: The store is empty.
        """
        return self.shape[-1]

    @property
    def _first_shard(self) -> Shard:
        if not self.shards:
            raise StoreError(f"the store {self.path} is empty: run `tier extract` first")
        return self.shards[0]

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return whether each of the keys (M, 32) is stored, (M,) bool, in bounded memory."""
        return self._ask(lambda index: index.holds(keys))

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
                return self.read_places(self._require_places(keys))
            except VanishedShardError:
                self._reload()

    def read_places(self, places: np.ndarray) -> np.ndarray:
        """Return features (M, ...) at places (M,) of the index; shards that vanish are not looked up again.

        Raises:
            VanishedShardError: A compaction removed a shard.
            ShardError: A row at the places is damaged.
        """
        first = self._first_shard
        features = np.empty((len(places), *first.shape), first.dtype)
        order = np.argsort(places["shard"], kind="stable")
        numbers, starts = np.unique(places["shard"][order], return_index=True)
        for number, of_shard in zip(numbers, np.split(order, starts)[1:], strict=True):
            self._copy_rows(self.shards[number], places[of_shard], features, of_shard)
        return features

    def _copy_rows(
        self,
        shard: Shard,
        places: np.ndarray,
        out: np.ndarray,
        positions: np.ndarray,
    ) -> None:
        try:
            shard.copy_rows(places["row"], places["check"], out, positions)
        except ShardError:
            self._index_source.require_fit(shard)
            raise

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys (B, 32) and features (B, ...) of every shard in turn, in bounded memory.

        A key that several shards contain is yielded several times.

        Raises:
            StoreError: The store was removed during reading.
            ShardError: A row of the next block is damaged.
        """
        earlier: list[_Progress] = []
        while True:
            progress = _Progress.start(self.index)
            try:
                for number, shard in enumerate(self.shards):
                    yield from self._new_blocks(shard, earlier)
                    progress.is_read[number] = True
                return
            except VanishedShardError:
                earlier.append(progress)
                self._reload()

    def _new_blocks(
        self,
        shard: Shard,
        earlier: "Sequence[_Progress]",
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the blocks of a shard, without rows that were yielded before the folder was listed again."""
        try:
            for keys, features in shard.blocks():
                is_new = np.ones(len(keys), bool)
                for progress in earlier:
                    is_new &= ~progress.has_read(keys)
                if is_new.all():
                    yield keys, features
                elif is_new.any():
                    yield keys[is_new], features[is_new]
        except ShardError:
            self._index_source.require_fit(shard)
            raise

    def _require_places(self, keys: np.ndarray) -> np.ndarray:
        places = self.index.find(keys)
        missing_count = int((places["shard"] == NOWHERE).sum())
        if missing_count:
            raise StoreError(
                f"{missing_count} of {len(keys)} inputs are not in {self.path}: "
                f"run `{self._filling_command()}` on this data first"
            )
        return places

    def _filling_command(self) -> str:
        if self.signature.architecture == GIVEN_SCORES:
            return f"tier score --scores FILE --name {self.signature.encoder}"
        if self.signature.stream == "score":
            return f"tier score --scorer {self.signature.encoder}"
        return "tier extract"

    def _ask(self, question: Callable[[Index], Answer]) -> Answer:
        """Return an answer of the index, which is opened again if its file was replaced and is unreadable."""
        while True:
            try:
                return question(self.index)
            except VanishedShardError:
                self._reload()

    def _reload(self) -> None:
        if not (self.path / SIGNATURE_FILE).exists():
            raise StoreError(f"the store {self.path} was removed while it was read: run `tier extract` again")
        vars(self).pop("index", None)  # cached_property keeps its value there

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[object, ...]]:
        return FeatureStore, (self.path, self.signature, self.versions)

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


@dataclass(frozen=True)
class _Progress:
    """How far the shards of an index were read.

    Attributes:
        index: The index.
        is_read: (S,) whether all rows of a shard were read.
    """

    index: Index
    is_read: np.ndarray

    @classmethod
    def start(cls, index: Index) -> "_Progress":
        return cls(index, np.zeros(len(index.shards) + 1, bool))

    def has_read(self, keys: np.ndarray) -> np.ndarray:
        """Return whether the row of each key (M, 32) was read, (M,) bool."""
        places = self.index.find(keys)
        shards = np.minimum(places["shard"], len(self.is_read) - 1)  # the last: keys not stored
        return self.is_read[shards]
