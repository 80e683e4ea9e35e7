"""The feature store: a folder of shards that belong to one signature, read and written by key."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from safetensors import SafetensorError

from tier4k.cache.atomic import publish_text
from tier4k.cache.errors import TierError
from tier4k.cache.keys import KEY_BYTES, sortable
from tier4k.cache.shard import SUFFIX, Shard, VanishedShardError, write_shard
from tier4k.cache.signature import Signature, SignatureError

SIGNATURE_FILE = "signature.json"
DISCARDED_PREFIX = ".tier4k-removed-"  # of folders of stores that are being removed
SHARD_ROWS = 4096
SHARD_BYTES = 2**25
SHARD_SECONDS = 60.0


class StoreError(TierError):
    """A store is missing, ambiguous, incomplete or cannot be written."""


@dataclass(frozen=True)
class Index:
    """Every published key, sorted, with the shard and the row that hold it."""

    keys: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "Index":
        """Sort the keys of all shards; of equal keys the row with the smaller check comes first, whichever shard it is in.

        So what is read does not depend on how the rows lie in shards, and stays the same when they are compacted.
        """
        counts = [len(shard.keys) for shard in shards]
        keys = sortable(
            np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *(shard.keys for shard in shards)])
        )
        checks = np.concatenate([np.empty(0, np.uint64), *(shard.row_checks for shard in shards)])
        order = np.lexsort((checks, keys))
        shard = np.repeat(np.arange(len(shards)), counts)
        row = np.arange(len(keys)) - np.repeat(np.cumsum(counts, dtype=int) - counts, counts)
        return cls(keys[order], shard[order], row[order])

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Position (M,) of each key (M, 32) in this index, -1 where it is not here."""
        wanted = sortable(keys)
        if not len(self.keys):
            return np.full(len(wanted), -1)
        # Numbers are found faster than texts, and in order faster still. Keys of the same beginning are looked up as a whole.
        beginning = _beginnings(wanted)
        order = np.argsort(beginning)
        position = np.empty(len(wanted), int)
        position[order] = np.minimum(np.searchsorted(self._beginnings, beginning[order]), len(self.keys) - 1)
        twins = np.flatnonzero((self.keys[position] != wanted) & (self._beginnings[position] == beginning))
        position[twins] = np.minimum(np.searchsorted(self.keys, wanted[twins]), len(self.keys) - 1)
        return np.where(self.keys[position] == wanted, position, -1)

    @cached_property
    def _beginnings(self) -> np.ndarray:
        return _beginnings(self.keys)

    def distinct(self) -> np.ndarray:
        """Position (K,) of the first of each key."""
        return np.flatnonzero(np.concatenate([[True], self.keys[1:] != self.keys[:-1]])[: len(self.keys)])


def _beginnings(keys: np.ndarray) -> np.ndarray:
    """The first 8 bytes of keys (N,) as numbers of the same order."""
    return keys.view(">u8").reshape(-1, KEY_BYTES // 8)[:, 0].astype(np.uint64)


@dataclass(frozen=True)
class FeatureStore:
    """The published shards of one signature, as they were when the store was first looked at.

    Where a compaction takes a shard away in the meantime, the store looks at its folder anew and goes on.

    Attributes:
        path: Folder of the store.
        signature: How its features were made.
        versions: Library versions at the time the store was created; recorded, never compared.
    """

    path: Path
    signature: Signature
    versions: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open an existing store.

        Raises:
            StoreError: There is no readable signature.json.
            SignatureError: signature.json does not belong to this folder.
        """
        try:
            record = json.loads((path / SIGNATURE_FILE).read_text(encoding="utf-8"))
            signature, versions = Signature.from_dict(record["signature"]), dict(record["versions"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a feature store: {SIGNATURE_FILE} cannot be read ({error})"
            ) from error
        if not path.resolve().name.endswith(signature.digest):
            raise SignatureError(
                f"{path / SIGNATURE_FILE} was changed: it describes a store ending in {signature.digest}.\n"
                "Restore the file, or delete the folder and extract again."
            )
        return cls(path, signature, versions)

    @classmethod
    def create(cls, root: Path, signature: Signature, versions: Mapping[str, str]) -> "FeatureStore":
        """Open the store of `signature` under `root`, making it first where it does not exist.

        Its signature.json gets the present time, so that `tier store gc` takes the store for used.
        """
        path = root / signature.folder_name
        if not (path / SIGNATURE_FILE).exists():
            record = {"signature": asdict(signature), "versions": dict(versions)}
            with writing_store(path):
                publish_text(path / SIGNATURE_FILE, json.dumps(record, indent=2) + "\n")
        store = cls.open(path)
        store.signature.require(signature, f"Delete {path} and extract again.")
        with suppress(OSError):  # another user's file
            os.utime(path / SIGNATURE_FILE)
        return store

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The published shards in the order of their names.

        Raises:
            ShardError: One is damaged.
            SignatureError: One was copied here from another store.
        """
        shards = self._open_shards()
        for shard in shards:
            self.require_own(shard)
            _require_alike(shard, shards[0])
        return shards

    def _open_shards(self) -> tuple[Shard, ...]:
        while True:
            with suppress(VanishedShardError):
                return tuple(Shard.open(path) for path in self.files())

    def files(self) -> list[Path]:
        """The files of the published shards, sound or not, in the order of their names."""
        # While a compaction goes on, one look may miss its new shard and some of the old ones as well; two equal looks do not.
        files, before = sorted(self.path.glob(f"*{SUFFIX}")), None
        while files != before:
            files, before = sorted(self.path.glob(f"*{SUFFIX}")), files
        return files

    @cached_property
    def index(self) -> Index:
        """Where each key is."""
        return Index.of(self.shards)

    @property
    def keys(self) -> np.ndarray:
        """The distinct keys of the store, (N, 32) uint8 in order."""
        return self.index.keys[self.index.distinct()].view(np.uint8).reshape(-1, KEY_BYTES)

    @property
    def width(self) -> int:
        """Length D of a feature.

        Raises:
            StoreError: There is none yet.
        """
        if not self.shards:
            raise StoreError(f"{self.path} holds no features yet: run `tier extract`")
        return self.shards[0].shape[-1]

    def hexadecimal_keys(self) -> frozenset[str]:
        """The distinct keys, each as 64 hexadecimal digits."""
        return frozenset(bytes(key).hex() for key in self.keys)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """For keys (M, 32): whether each is stored, (M,) bool."""
        return self.index.find(keys) >= 0

    def coverage(self, keys: np.ndarray) -> tuple[int, int]:
        """How many of the keys (M, 32) are stored, and how many there are."""
        return int(self.holds(keys).sum()), len(keys)

    def read(self, keys: np.ndarray) -> np.ndarray:
        """Features of keys (M, 32) in their order, (M, D) or (M, V, D); only these rows are read, and checked.

        Raises:
            StoreError: Some keys are not stored.
            ShardError: A row that is needed is damaged.
        """
        while True:
            try:
                return self.gather(self._positions(keys))
            except VanishedShardError:
                self._look_again()

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """Features at positions (M,) of the index, as `read`, but a VanishedShardError is the caller's to handle."""
        shard, row = self.index.shard[positions], self.index.row[positions]
        out = np.empty((len(positions), *self.shards[0].shape), self.shards[0].dtype)
        order = np.argsort(shard, kind="stable")
        numbers, starts = np.unique(shard[order], return_index=True)
        for number, places in zip(numbers, np.split(order, starts)[1:], strict=True):
            self.shards[number].copy_rows(row[places], out, places)
        return out

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keys (B, 32) and features (B, ...) of every shard in turn, in bounded memory; for reading all there is.

        A key that several shards hold comes several times.

        Raises:
            ShardError: A row of the next block is damaged.
        """
        done: list[Shard] = []
        while True:
            earlier = Index.of(done)  # empty unless the folder was looked at anew
            try:
                for shard in self.shards:
                    for keys, features in shard.blocks():
                        new = earlier.find(keys) < 0
                        if new.all():
                            yield keys, features
                        elif new.any():
                            yield keys[new], features[new]
                    done.append(shard)
                return
            except VanishedShardError:
                self._look_again()

    def _positions(self, keys: np.ndarray) -> np.ndarray:
        positions = self.index.find(keys)
        if (positions < 0).any():
            command = (
                f"tier score --scorer {self.signature.encoder}"
                if self.signature.stream == "score"
                else "tier extract"
            )
            raise StoreError(
                f"{int((positions < 0).sum())} of {len(keys)} inputs are not in {self.path}: run `{command}` on this data first"
            )
        if not self.shards:
            raise StoreError(f"{self.path} is empty: run `tier extract` first")
        return positions

    def _look_again(self) -> None:
        if not (self.path / SIGNATURE_FILE).exists():
            raise StoreError(f"{self.path} was removed while it was read: run `tier extract` again")
        for name in ("shards", "index"):
            vars(self).pop(name, None)  # what cached_property keeps

    def writer(self, shard_rows: int = SHARD_ROWS) -> "ShardWriter":
        """A context in which rows are added; leaving it, even by an error, publishes the rows in hand."""
        return ShardWriter(self, shard_rows)

    def require_own(self, shard: Shard) -> None:
        """Raise SignatureError where a shard belongs to another store or is not of this store's type."""
        if shard.signature != self.signature.digest:
            raise SignatureError(
                f"{shard.path} belongs to the signature {shard.signature}, this store to {self.signature.digest}: "
                "move the file to the store it came from"
            )
        if shard.dtype != np.dtype(self.signature.dtype):
            raise SignatureError(
                f"{shard.path} holds {shard.dtype}, this store {self.signature.dtype}: `tier store verify --repair` sets it aside"
            )


def _require_alike(shard: Shard, first: Shard) -> None:
    if shard.shape != first.shape:
        raise SignatureError(
            f"{shard.path} holds rows of shape {shard.shape}, {first.path} of {first.shape}: one of them is not of this store; "
            "`tier store verify --repair` sets it aside"
        )


class ShardWriter:
    """Collects encoded rows and publishes a shard whenever enough are in hand, or the last one is a minute old.

    So a killed run loses a minute of work at most, however slow the encoder, and memory does not grow, however wide the rows.
    """

    def __init__(self, store: FeatureStore, shard_rows: int) -> None:
        self._store = store
        self._shard_rows = shard_rows
        self._keys: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._published = time.monotonic()
        self._folder: int | None = None
        self.rows = 0

    def add(self, keys: np.ndarray, features: np.ndarray) -> None:
        """Add keys (B, 32) and their features (B, ...), of the signature's dtype."""
        self._keys.append(keys)
        self._features.append(features.astype(self._store.signature.dtype, copy=False))
        self.rows += len(keys)
        rows, size = sum(map(len, self._keys)), sum(features.nbytes for features in self._features)
        if (
            rows >= self._shard_rows
            or size >= SHARD_BYTES
            or time.monotonic() - self._published >= SHARD_SECONDS
        ):
            self.publish()

    def publish(self) -> None:
        """Publish the rows in hand as one shard."""
        if not any(map(len, self._keys)):
            return
        keys, features = np.concatenate(self._keys), np.concatenate(self._features)
        self._keys, self._features, self._published = [], [], time.monotonic()
        with writing_store(self._store.path):
            self._require_same_folder()
            write_shard(self._store.path, self._store.signature.digest, keys, features)

    def _require_same_folder(self) -> None:
        """Raise FileNotFoundError where the store was removed, even if another process made it again."""
        path = self._store.path
        os.stat(path / SIGNATURE_FILE)
        if self._folder is not None and not os.path.samestat(os.fstat(self._folder), os.stat(path)):
            raise FileNotFoundError(path)

    def __enter__(self) -> "ShardWriter":
        with writing_store(self._store.path):
            # As long as it is open, no other folder gets its inode number.
            self._folder = os.open(self._store.path, os.O_RDONLY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error of the writing itself nothing is in hand any more, so this never tries the same write twice.
        try:
            self.publish()
        finally:
            if self._folder is not None:
                os.close(self._folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write (disk full, no permission, folder gone) into a StoreError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps what the system tells it
        raise StoreError(
            f"cannot write to {path}: {getattr(error, 'strerror', None) or error}.\n"
            "What was published before is intact; mend the cause (space, permission) and run the same command again."
        ) from error


@contextmanager
def writing_store(path: Path) -> Iterator[None]:
    """As `writing`, where the folder of a store that another process removed is an error of its own."""
    with writing(path):
        try:
            yield
        except FileNotFoundError as error:
            what = "the store was removed while it was written to"
            raise StoreError(f"cannot write to {path}: {what}; run the same command again") from error


def discard(path: Path) -> None:
    """Remove the folder of a store, or one of `discarded`. It is renamed first, so that nobody finds half of it.

    Raises:
        StoreError: The system refuses.
    """
    away = path.with_name(f"{DISCARDED_PREFIX}{secrets.token_hex(8)}")
    with writing(path):
        with suppress(FileNotFoundError):  # another process removed it
            path.rename(away)
        _remove_folder(away)


def discarded(root: Path) -> list[Path]:
    """Folders under `root` whose removal was interrupted, or goes on in another process."""
    return sorted(root.glob(f"{DISCARDED_PREFIX}*"))


def _remove_folder(path: Path) -> None:
    """Remove a folder, which other processes may be removing too."""
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


def stores(root: Path) -> Iterator[FeatureStore]:
    """The stores under `root` that can be opened, in the order of their names."""
    return (store for store in _opened(root).values() if isinstance(store, FeatureStore))


def broken_stores(root: Path) -> dict[Path, str]:
    """The folders under `root` whose signature.json does not make them a store, and why."""
    return {path: str(error) for path, error in _opened(root).items() if isinstance(error, TierError)}


def require_stores(root: Path) -> list[FeatureStore]:
    """The stores under `root` that can be opened.

    Raises:
        StoreError: There is none.
    """
    here = list(stores(root))
    if not here:
        problems = "".join(f"\n{why}" for why in broken_stores(root).values())
        raise StoreError(
            f"there are no feature stores in {root}: run `tier extract DATA --features {root}` first, or give another --features{problems}"
        )
    return here


def _opened(root: Path) -> dict[Path, FeatureStore | TierError]:
    found: dict[Path, FeatureStore | TierError] = {}
    for file in sorted(root.glob(f"*/{SIGNATURE_FILE}")):
        if file.parent.name.startswith(DISCARDED_PREFIX):
            continue
        try:
            found[file.parent] = FeatureStore.open(file.parent)
        except TierError as error:
            found[file.parent] = error
    return found
