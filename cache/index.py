"""The sorted keys of a store, each with its shard and row."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tier4k.cache.keys import KEY_BYTES, sortable
from tier4k.cache.shard import Shard

PREFIX_BYTES = 8  # of a key, compared as one number


@dataclass(frozen=True)
class Index:
    """Every published key, sorted, with the shard and the row of its features.

    Attributes:
        keys: (N,) sorted byte strings, see `sortable`.
        shard: (N,) index of each key's shard in the list of shards.
        row: (N,) index of each key's row in the shard.
    """

    keys: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def from_shards(cls, shards: Sequence[Shard]) -> "Index":
        """Make the index of shards.

        Rows with equal keys are sorted by their checks, whichever shards contain the rows. So the features of
        a key do not depend on the distribution of rows over shards, and a compaction does not change them.
        """
        counts = [len(shard.keys) for shard in shards]
        all_keys = [np.empty((0, KEY_BYTES), np.uint8)]
        all_checks = [np.empty(0, np.uint64)]
        for shard in shards:
            all_keys.append(shard.keys)
            all_checks.append(shard.row_checks)
        keys = sortable(np.concatenate(all_keys))
        checks = np.concatenate(all_checks)
        order = np.lexsort((checks, keys))
        shard_index = np.repeat(np.arange(len(shards)), counts)
        starts = np.cumsum(counts, dtype=int) - counts
        row = np.arange(len(keys)) - np.repeat(starts, counts)
        return cls(keys[order], shard_index[order], row[order])

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the position (M,) of each key (M, 32) in this index, or -1 for a key that is not stored.

        The first bytes of each key are compared as a number, which is faster than comparing texts, and in
        sorted order, which is faster still. Only keys that share these bytes with another key are compared
        in full.
        """
        wanted = sortable(keys)
        if not len(self.keys):
            return np.full(len(wanted), -1)
        last = len(self.keys) - 1
        prefixes = _prefixes(wanted)
        order = np.argsort(prefixes)
        first_candidate = np.searchsorted(self._prefixes, prefixes[order])
        position = np.empty(len(wanted), int)
        position[order] = np.minimum(first_candidate, last)
        other_key = self.keys[position] != wanted
        same_prefix = self._prefixes[position] == prefixes
        unclear = np.flatnonzero(other_key & same_prefix)
        insertion = np.searchsorted(self.keys, wanted[unclear])
        position[unclear] = np.minimum(insertion, last)
        is_stored = self.keys[position] == wanted
        return np.where(is_stored, position, -1)

    @cached_property
    def _prefixes(self) -> np.ndarray:
        return _prefixes(self.keys)

    def distinct(self) -> np.ndarray:
        """Return the position (K,) of the first row of each distinct key."""
        if not len(self.keys):
            return np.empty(0, int)
        differs = self.keys[1:] != self.keys[:-1]
        return np.flatnonzero(np.concatenate([[True], differs]))


def _prefixes(keys: np.ndarray) -> np.ndarray:
    """Return the first 8 bytes of keys (N,) as numbers that sort like the bytes."""
    numbers = keys.view(">u8").reshape(-1, KEY_BYTES // PREFIX_BYTES)
    return numbers[:, 0].astype(np.uint64)
