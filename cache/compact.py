"""Compaction: the shards of a store are merged into one.

No old shard is removed before the new shard, which contains every row of the old shards, is on the disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import remove_dead
from tier4k.cache.keys import KEY_BYTES, sortable
from tier4k.cache.shard import Shard, VanishedShardError, write_blocks
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_store_write_errors

BLOCK_BYTES = 2**26  # of features in memory; the rows of a block come from all old shards


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction.

    Attributes:
        store: Folder of the store.
        shards: Number of shards before.
        rows: Number of distinct rows.
        doubles: Number of rows that were removed because another row had the same key.
        path: The shard that remains; None in an empty store.
    """

    store: Path
    shards: int
    rows: int
    doubles: int
    path: Path | None


def compact(store: FeatureStore) -> Compaction:
    """Write the distinct rows of a store, in the order of their keys, into one shard.

    Stores with equal content give equal files. A store that consists of one such shard stays unchanged.

    Readers, writers and other compactions may run at the same time: a compaction removes only shards that it
    has read. A compaction that is killed leaves at most two copies of a row.

    Raises:
        ShardError: A shard is damaged; nothing was removed.
        StoreError: The folder cannot be written to; nothing was removed before the new shard was published.
    """
    while True:
        try:
            return _compact(FeatureStore.open(store.path))
        except VanishedShardError:  # another compaction was faster
            continue


def _compact(store: FeatureStore) -> Compaction:
    remove_dead(store.path)
    shards = store.shards
    positions = store.index.distinct()
    if not shards:
        path = None
    elif len(shards) == 1 and _in_order(shards[0]):
        path = shards[0].path
    else:
        path = _replace_shards(store, positions)
    doubles = len(store.index.keys) - len(positions)
    return Compaction(store.path, len(shards), len(positions), doubles, path)


def _in_order(shard: Shard) -> bool:
    keys = sortable(shard.keys)
    return bool((keys[:-1] < keys[1:]).all())


def _replace_shards(store: FeatureStore, positions: np.ndarray) -> Path:
    first = store.shards[0]
    keys = store.index.keys[positions].view(np.uint8).reshape(-1, KEY_BYTES)
    with explain_store_write_errors(store.path):
        path = write_blocks(
            store.path,
            store.signature.digest,
            keys,
            _checks(store, positions),
            first.shape,
            first.dtype,
            _blocks(store, positions),
        )
        for shard in store.shards:
            # The new shard may have the name of an old shard: after two compactions at once, or if an old
            # shard contains all rows of the other shards.
            if shard.path != path:
                shard.path.unlink(missing_ok=True)
    return path


def _checks(store: FeatureStore, positions: np.ndarray) -> np.ndarray:
    counts = [len(shard.keys) for shard in store.shards]
    starts = np.cumsum([0, *counts])
    checks = np.concatenate([shard.row_checks for shard in store.shards])
    numbers = store.index.shard[positions]
    return checks[starts[numbers] + store.index.row[positions]]


def _blocks(store: FeatureStore, positions: np.ndarray) -> Iterator[np.ndarray]:
    size = max(BLOCK_BYTES // store.shards[0].row_bytes, 1)
    for start in range(0, len(positions), size):
        yield store.read_positions(positions[start : start + size])
