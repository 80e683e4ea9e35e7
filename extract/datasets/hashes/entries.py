"""Entries of the hash cache: sorted columns that are searched and merged in blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.cache.keys import KEY_BYTES

IDENTITY_BYTES = 16
MERGED_ROWS = 2**20  # of a block: the memory of a merge does not depend on the size of the cache


@dataclass(frozen=True)
class Entries:
    """Content keys of images by the identities of their files, sorted; each identity occurs once.

    An identity is compared as two numbers, which is faster than comparing 16 bytes.

    Attributes:
        first: (N,) uint64, bytes 0 to 7 of each identity.
        second: (N,) uint64, bytes 8 to 15.
        keys: (N, 32) uint8, content keys.
        flags: (N,) uint8, what else is known of each content.
    """

    first: np.ndarray
    second: np.ndarray
    keys: np.ndarray
    flags: np.ndarray

    @classmethod
    def of(
        cls,
        identities: np.ndarray,
        keys: np.ndarray,
        flags: np.ndarray,
    ) -> "Entries":
        """Sort entries in any order; of equal identities the last one counts.

        Args:
            identities: (N, 16) uint8.
            keys: (N, 32) uint8.
            flags: (N,) uint8.
        """
        first, second = identity_numbers(identities)
        newest_first = cls(first[::-1], second[::-1], keys[::-1], flags[::-1])
        return _sorted(newest_first)

    def __len__(self) -> int:
        return len(self.first)

    def find(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the position (M,) of each identity, -1 for one that is not here.

        Args:
            first: (M,) first numbers, sorted: this makes the search several times as fast.
            second: (M,) second numbers.
        """
        if not len(self):
            return np.full(len(first), -1)
        position = np.searchsorted(self.first, first)
        unclear = np.arange(len(first))
        while len(unclear):  # a second turn is only needed where two identities share their first number
            unclear = unclear[position[unclear] < len(self)]
            unclear = unclear[self.first[position[unclear]] == first[unclear]]
            unclear = unclear[self.second[position[unclear]] != second[unclear]]
            position[unclear] += 1
        inside = np.minimum(position, len(self) - 1)
        is_here = (self.first[inside] == first) & (self.second[inside] == second)
        return np.where(is_here, inside, -1)

    def rows(self, start: int, stop: int) -> "Entries":
        """Return consecutive entries, without a copy."""
        part = slice(start, stop)
        return Entries(self.first[part], self.second[part], self.keys[part], self.flags[part])


def identity_numbers(identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two numbers (N,) of each identity (N, 16)."""
    numbers = np.ascontiguousarray(identities).view("<u8").reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def merged(parts: Sequence[Entries]) -> Iterator[Entries]:
    """Yield the entries of all parts, in sorted blocks of about `MERGED_ROWS`.

    Of equal identities that of the last part counts. Identities are hashes, so equal ranges of their first
    numbers hold about equally many.
    """
    total = sum(map(len, parts))
    count = max(-(-total // MERGED_ROWS), 1)
    edges = np.array([(number << 64) // count for number in range(1, count)], np.uint64)
    cuts = [[0, *np.searchsorted(part.first, edges).tolist(), len(part)] for part in parts]
    for number in range(count):
        block = [part.rows(cut[number], cut[number + 1]) for part, cut in zip(parts, cuts, strict=True)]
        yield _sorted(concatenated(block[::-1]))


def concatenated(parts: Sequence[Entries]) -> Entries:
    """Return the entries of all parts one after the other."""
    return Entries(
        np.concatenate([np.empty(0, np.uint64), *(part.first for part in parts)]),
        np.concatenate([np.empty(0, np.uint64), *(part.second for part in parts)]),
        np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *(part.keys for part in parts)]),
        np.concatenate([np.empty(0, np.uint8), *(part.flags for part in parts)]),
    )


def _sorted(entries: Entries) -> Entries:
    """Sort entries; of equal identities the first one counts."""
    order = np.argsort(entries.first, kind="stable")  # fast for entries that were sorted in parts
    first, second = entries.first[order], entries.second[order]
    tied = first[1:] == first[:-1]
    if (tied & (second[1:] != second[:-1])).any():
        order = np.lexsort((entries.second, entries.first))
        first, second = entries.first[order], entries.second[order]
        tied = first[1:] == first[:-1]
    is_new = np.ones(len(order), bool)
    is_new[1:] = ~tied | (second[1:] != second[:-1])
    kept = order[is_new]
    return Entries(first[is_new], second[is_new], entries.keys[kept], entries.flags[kept])
