"""The index of a store: each distinct key, in order, with the shard and the row of its features.

The index of a small store is made in memory from its shards. A large store has a file of sorted records that
readers map, and only the shards that came later are opened. The file is derived from the shards and may be
deleted at any time. It is used if it is sound and if each shard that it names still exists, and made again
otherwise. A row that is read through it is compared with its check.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedRandom
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import publish_beside, remove_dead
from tier4k.cache.records import (
    NOWHERE,
    PARTS,
    PLACE,
    RECORD,
    RecordFile,
    Run,
    key_words,
    keys_of,
    lower_check,
    make_records,
    sorted_distinct,
    write_records,
)
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import VanishedShardError
from tier4k.cache.signature import SIGNATURE_FILE, SignatureError
from tier4k.cache.write_errors import explain_store_write_errors, explain_write_errors

INDEX_FILE = "keys.index"  # in the folder of a large store
SHARDS_IN_MEMORY = 1024  # that no index file names: more are added to the file, since each is opened on its own
ROWS_IN_MEMORY = 2**20  # of these shards; each row takes 48 bytes
GROWTH = 16  # a large file is made again only when the new rows are more than 1/16 of its rows
KEYS_AT_ONCE = 2**20  # looked up together
ROWS_AT_ONCE = 2**18  # divided among the parts together
COLUMNS = ("names", "checksums", "counts", "offsets", "keys_offsets", "checks_offsets")  # of the shards


@dataclass(frozen=True)
class Index:
    """Every published key with the place of its features.

    Attributes:
        runs: Sorted records: of the index file, of the other shards.
        shards: The features of each shard, in the order of the numbers in the records.
    """

    runs: tuple[Run, ...]
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """Number of rows of all shards; a key that is stored twice counts twice."""
        return sum(shard.count for shard in self.shards)

    @cached_property
    def distinct(self) -> int:
        """Number of distinct keys."""
        count = sum(map(len, self.runs))
        for later in self.runs[1:]:
            for byte in range(PARTS):
                found = self.runs[0].find(later.part(byte)["words"])
                count -= int((found["shard"] != NOWHERE).sum())
        return count

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the place (M,) of each key (M, 32); its shard is `NOWHERE` for a key that is not stored.

        Of several rows of one key, that with the lowest check is found.
        """
        places = np.empty(len(keys), PLACE)
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(start, start + KEYS_AT_ONCE)
            places[part] = self._find(key_words(keys[part]))
        return places

    def _find(self, words: np.ndarray) -> np.ndarray:
        first, *others = self.runs
        places = first.find(words)
        for run in others:
            places = lower_check(places, run.find(words))
        return places

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return whether each of the keys (M, 32) is stored, (M,) bool."""
        is_stored = np.empty(len(keys), bool)
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(start, start + KEYS_AT_ONCE)
            is_stored[part] = self._find(key_words(keys[part]))["shard"] != NOWHERE
        return is_stored

    def keys(self) -> np.ndarray:
        """Return the distinct keys (K, 32) uint8 in order."""
        parts = [np.empty((0, 32), np.uint8)]
        for byte in range(PARTS):
            parts.append(keys_of(sorted_distinct(np.concatenate([run.part(byte) for run in self.runs]))))
        return np.concatenate(parts)


@dataclass(frozen=True)
class IndexSource:
    """What an index is made from.

    Attributes:
        folder: Folder of the store.
        digest: Digest of the store's signature.
        require_member: Refuses a shard that does not belong to the store.
    """

    folder: Path
    digest: str
    require_member: Callable[[Shard], None]

    def open(self, paths: Sequence[Path], as_one_run: bool = False) -> Index:
        """Return the index of all shards of the store.

        Args:
            paths: The shards.
            as_one_run: Whether shards that the index file does not name are added to it, however few.

        Raises:
            ShardError: A shard is damaged.
            SignatureError: A shard belongs to another store, or has rows of another shape than the others.
            VanishedShardError: A shard was removed meanwhile.
            StoreError: A large index can be written neither to the store nor to the temporary folder.
        """
        old = self._open_file({path.name for path in paths})
        names = {shard.path.name for shard in old.shards}
        later = [path for path in paths if path.name not in names]
        must_add = as_one_run and old.runs and later
        if not must_add and len(later) <= SHARDS_IN_MEMORY:
            limit = max(ROWS_IN_MEMORY, old.rows // GROWTH)
            if index := self._completed(old, later, limit):
                return index
        return self._rewritten(old, later)

    def require_fit(self, shard: Shard) -> None:
        """Remove an index file that describes a shard wrongly; called when rows do not match their checks.

        Raises:
            ShardError: The shard itself is damaged.
            VanishedShardError: The index was wrong; at the next access it is made again.
            StoreError: The index was wrong and cannot be removed.
        """
        if Shard.open(shard.path) == shard:
            return
        path = self.folder / INDEX_FILE
        with explain_store_write_errors(path):
            path.unlink(missing_ok=True)
        raise VanishedShardError(f"{shard.path} is not the shard that {path} describes")

    def _open_file(self, names: set[str]) -> Index:
        """Return the index file's index; an index without runs if there is no file that fits these shards."""
        file = RecordFile.open(self.folder / INDEX_FILE)
        if not file or file.about["signature"] != self.digest or not names.issuperset(file.about["names"]):
            return Index((), ())
        return self._index_of(file)

    def _index_of(self, file: RecordFile) -> Index:
        shape = tuple(file.about["shape"])
        dtype = np.dtype(file.about["dtype"])
        columns = (file.about[name] for name in COLUMNS)
        shards = []
        for name, checksum, count, *offsets in zip(*columns, strict=True):
            path = self.folder / name
            shards.append(Shard(path, self.digest, checksum, count, shape, dtype, *offsets))
        return Index((file.run,), tuple(shards))

    def _shards(self, old: Index, paths: Iterable[Path]) -> Iterator[Shard]:
        """Open shards one by one, and compare each with the first of the store."""
        first: Shard | None = old.shards[0] if old.shards else None
        for path in paths:
            shard = Shard.open(path)
            self.require_member(shard)
            first = first or shard
            _require_same_shape(shard, first)
            yield shard

    def _completed(
        self,
        old: Index,
        later: Sequence[Path],
        limit: int,
    ) -> Index | None:
        """Return an index with later shards in memory; None if these have more rows than the limit."""
        records = [np.empty(0, RECORD)]
        shards = list(old.shards)
        rows = 0
        for shard in self._shards(old, later):
            rows += shard.count
            if rows > limit:
                return None
            records.append(make_records(*shard.keys_and_checks(), len(shards)))
            shards.append(shard)
        if old.runs and not later:
            return old
        return Index((*old.runs, Run.in_memory(np.concatenate(records))), tuple(shards))

    def _rewritten(self, old: Index, later: Sequence[Path]) -> Index:
        """Write an index file with later shards, and open it.

        Where the folder of the store cannot be written to, the file is made in the temporary folder, and
        ends with this process.
        """
        opened: list[RecordFile] = []

        def write(path: Path) -> None:
            """Write the file under a temporary name, and open it."""
            _write_index(path, self.digest, old, self._shards(old, later))
            # Writing an index does not use the store: `tier store gc` must not take the store for a new one.
            used = (self.folder / SIGNATURE_FILE).stat()
            os.utime(path, ns=(used.st_atime_ns, used.st_mtime_ns))
            file = RecordFile.open(path)
            if file is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            opened.append(file)

        try:
            remove_dead(self.folder)
            publish_beside(self.folder / INDEX_FILE, write)
        except OSError:
            with tempfile.TemporaryDirectory() as folder, explain_write_errors(Path(folder)):
                write(Path(folder) / INDEX_FILE)
        return self._index_of(opened[-1])


def _write_index(
    path: Path,
    digest: str,
    old: Index,
    later: Iterable[Shard],
) -> None:
    """Write the records of an old index and of later shards, sorted part by part in bounded memory."""
    shards = list(old.shards)
    with path.with_name("spool").open("x+b") as spool:
        bounds = _spool(spool, _record_blocks(later, shards))
        about = {
            "signature": digest,
            "shape": shards[0].shape,
            "dtype": shards[0].dtype.str,
            **dict(zip(COLUMNS, zip(*map(_row, shards), strict=True), strict=True)),
        }
        write_records(path, _merged_parts(old, spool, bounds), about)
    path.with_name("spool").unlink()


def _row(shard: Shard) -> tuple[object, ...]:
    """Return the values of the COLUMNS."""
    offsets = (shard.offset, shard.keys_offset, shard.checks_offset)
    return shard.path.name, shard.checksum, shard.count, *offsets


def _record_blocks(shards: Iterable[Shard], seen: list[Shard]) -> Iterator[np.ndarray]:
    """Yield the records of shards in blocks, and append each shard to `seen`."""
    waiting: list[np.ndarray] = []
    for shard in shards:
        keys, checks = shard.keys_and_checks()
        for start in range(0, shard.count, ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            waiting.append(make_records(keys[part], checks[part], len(seen), start))
            if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                yield np.concatenate(waiting)
                waiting = []
        seen.append(shard)
    if waiting:
        yield np.concatenate(waiting)


def _spool(file: BufferedRandom, blocks: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Write blocks of records, each in the order of first bytes; return the bounds (257,) of each block."""
    position = 0
    bounds = []
    for records in blocks:
        first_bytes = (records["words"][:, 0] >> np.uint64(56)).astype(np.uint8)
        order = np.argsort(first_bytes, kind="stable")
        file.write(records[order].view(np.uint8).data)
        bounds.append(position + np.searchsorted(first_bytes[order], np.arange(PARTS + 1)))
        position += len(records)
    return bounds


def _merged_parts(
    old: Index,
    file: BufferedRandom,
    bounds: Sequence[np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield the sorted distinct records of each first byte, from an old index and a spool."""
    for byte in range(PARTS):
        records = [np.empty(0, RECORD)]
        records += [run.part(byte) for run in old.runs]
        for bounds_of_block in bounds:
            start, stop = bounds_of_block[byte : byte + 2].tolist()
            file.seek(start * RECORD.itemsize)
            records.append(np.fromfile(file, RECORD, stop - start))
        yield sorted_distinct(np.concatenate(records))


def _require_same_shape(shard: Shard, first: Shard) -> None:
    if shard.shape != first.shape:
        raise SignatureError(
            f"{shard.path} contains rows of shape {shard.shape}, but {first.path} rows of shape "
            f"{first.shape}: run `tier store verify --repair`, which renames the shard with the rarer shape "
            "so that no reader opens it"
        )
