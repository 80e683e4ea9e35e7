"""Compaction: the shards of a store are merged into one for each range of keys.

No old shard is removed before the new shards, which contain every row of the old shards, are on the disk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import remove_dead
from tier4k.cache.index import INDEX_FILE, Index
from tier4k.cache.new_shard import NewRows, write_blocks
from tier4k.cache.records import Run, keys_of
from tier4k.cache.shard_content import VanishedShardError
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_store_write_errors

RANGE_BYTES = 2**31  # of the features of one shard, at most
BLOCK_BYTES = 2**28  # of features in memory; the rows of a block come from all old shards
BLOCK_RECORDS = 2**18  # in memory at once


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction.

    Attributes:
        store: Folder of the store.
        shards: Number of shards before.
        rows: Number of distinct rows.
        doubles: Number of rows that were removed because another row had the same key.
        paths: The shards that remain, in the order of their keys; none in an empty store.
    """

    store: Path
    shards: int
    rows: int
    doubles: int
    paths: tuple[Path, ...]


def compact(
    store: FeatureStore,
    range_bytes: int = RANGE_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Write the distinct rows of a store, in the order of their keys, into as few shards as a limit permits.

    Stores with equal content give equal files. A store that consists of such shards stays unchanged.

    Readers, writers and other compactions may run at the same time: a compaction removes only shards that it
    has read. A compaction that is killed leaves at most two copies of a row.

    Args:
        store: The store.
        range_bytes: Largest size of the features of one shard, unless a single row is larger.
        progress: Called with the number of rows that are written, and of all rows.

    Raises:
        ShardError: A shard is damaged; nothing was removed.
        StoreError: The folder cannot be written to; nothing was removed before the new shards were published.
    """
    while True:
        try:
            return _compact(FeatureStore.open(store.path), range_bytes, progress)
        except VanishedShardError:  # another compaction was faster
            continue


def _compact(
    store: FeatureStore,
    range_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> Compaction:
    remove_dead(store.path)
    index = store.complete_index()
    paths: tuple[Path, ...] = ()
    if index.shards:
        rows_per_shard = max(range_bytes // index.shards[0].row_bytes, 1)
        paths = _compact_paths(index, rows_per_shard)
        paths = paths or _replace_shards(store, index, rows_per_shard, progress)
    rows = index.distinct
    return Compaction(store.path, len(index.shards), rows, index.rows - rows, paths)


def _compact_paths(index: Index, rows_per_shard: int) -> tuple[Path, ...]:
    """Return the shards in the order of their keys if they are compact already; else nothing."""
    (run,) = index.runs
    if index.rows != len(run):
        return ()
    paths = []
    for start, stop in _ranges(0, len(run), rows_per_shard):
        shard = run.window(start, start + 1)["place"]["shard"][0]
        if index.shards[shard].count != stop - start:
            return ()
        for first, last in _ranges(start, stop, BLOCK_RECORDS):
            place = run.window(first, last)["place"]
            if (place["shard"] != shard).any() or (place["row"] != np.arange(first, last) - start).any():
                return ()
        paths.append(index.shards[shard].path)
    return tuple(paths)


def _replace_shards(
    store: FeatureStore,
    index: Index,
    rows_per_shard: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Path, ...]:
    (run,) = index.runs
    with explain_store_write_errors(store.path):
        paths = []
        for start, stop in _ranges(0, len(run), rows_per_shard):
            paths.append(_write_range(store, run, start, stop, progress))
        kept = set(paths)
        for shard in index.shards:
            # A new shard may have the name of an old shard: after two compactions at once, or if an old
            # shard contains just the rows of a range.
            if shard.path not in kept:
                shard.path.unlink(missing_ok=True)
        (store.path / INDEX_FILE).unlink(missing_ok=True)  # it names the old shards
    _ = FeatureStore.open(store.path).index  # a large store gets a new one, so that no reader waits for it
    return tuple(paths)


def _write_range(
    store: FeatureStore,
    run: Run,
    start: int,
    stop: int,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Publish the rows from one position of the sorted keys up to another as one shard."""
    first = store.shards[0]

    def records(size: int) -> Iterator[np.ndarray]:
        for position, end in _ranges(start, stop, size):
            yield run.window(position, end)

    def features() -> Iterator[np.ndarray]:
        """Read the features of the rows, a block at a time."""
        done = start
        for block in records(max(BLOCK_BYTES // first.row_bytes, 1)):
            yield store.read_places(block["place"])
            done += len(block)
            if progress:
                progress(done, len(run))

    rows = NewRows(
        stop - start,
        first.shape,
        first.dtype,
        keys=lambda: map(keys_of, records(BLOCK_RECORDS)),
        checks=lambda: (block["place"]["check"] for block in records(BLOCK_RECORDS)),
        features=features,
    )
    return write_blocks(store.path, store.signature.digest, rows)


def _ranges(
    start: int,
    stop: int,
    size: int,
) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of consecutive ranges of `size`; the last may be shorter."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)
