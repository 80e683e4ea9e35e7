"""Making one shard of many. Nothing is removed before the new shard, which holds every row of the old ones, is on the disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import remove_dead
from tier4k.cache.keys import KEY_BYTES, sortable
from tier4k.cache.shard import Shard, VanishedShardError, write_blocks
from tier4k.cache.store import FeatureStore, writing_store

BLOCK_BYTES = 2**26  # of features in memory; each block gathers rows from all over the old shards


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        store: Folder of the store.
        shards: How many shards there were.
        rows: How many distinct rows there are.
        doubles: How many rows were removed because another had the same key.
        path: The one shard that is left; None in an empty store.
    """

    store: Path
    shards: int
    rows: int
    doubles: int
    path: Path | None


def compact(store: FeatureStore) -> Compaction:
    """Put the distinct rows of a store, in the order of their keys, into one shard; stores of the same content become the same file.

    Readers, writers and other compactions may be at work: only the shards that were read here are removed. Killed at any moment, this
    leaves at most doubles. A store that is one such shard already is left alone.

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
    shards, index = store.shards, store.index
    positions = index.distinct()
    doubles = len(index.keys) - len(positions)
    if not shards or (len(shards) == 1 and _in_order(shards[0])):
        return Compaction(
            store.path, len(shards), len(positions), doubles, shards[0].path if shards else None
        )
    keys = index.keys[positions].view(np.uint8).reshape(-1, KEY_BYTES)
    with writing_store(store.path):
        path = write_blocks(
            store.path,
            store.signature.digest,
            keys,
            _checks(store, positions),
            shards[0].shape,
            shards[0].dtype,
            _blocks(store, positions),
        )
        for shard in shards:
            if (
                shard.path != path
            ):  # two compactions at once, or one of shards of which one holds all, end with the same name
                shard.path.unlink(missing_ok=True)
    return Compaction(store.path, len(shards), len(positions), doubles, path)


def _in_order(shard: Shard) -> bool:
    keys = sortable(shard.keys)
    return bool((keys[:-1] < keys[1:]).all())


def _checks(store: FeatureStore, positions: np.ndarray) -> np.ndarray:
    starts = np.cumsum([0, *(len(shard.keys) for shard in store.shards)])
    checks = np.concatenate([shard.row_checks for shard in store.shards])
    return checks[starts[store.index.shard[positions]] + store.index.row[positions]]


def _blocks(store: FeatureStore, positions: np.ndarray) -> Iterator[np.ndarray]:
    size = max(BLOCK_BYTES // store.shards[0].row_bytes, 1)
    for start in range(0, len(positions), size):
        yield store.gather(positions[start : start + size])
