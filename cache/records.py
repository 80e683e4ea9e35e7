"""Sorted records of keys: the shard and the row of the features of each key, in memory or in a file."""

import json
import os
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.shard_content import VanishedShardError, map_array

# The check of a row is part of its place, so that a wrong place is noticed when the row is read.
PLACE = np.dtype([("check", "<u8"), ("shard", "<u4"), ("row", "<u4")])
# A key as four numbers that sort like its bytes: numpy compares numbers faster than texts.
RECORD = np.dtype([("words", "<u8", (KEY_BYTES // 8,)), ("place", PLACE)])
NOWHERE = 2**32 - 1  # the shard of a key that is not stored
PARTS = 256  # records are searched and sorted in parts of one first byte of the key
MAGIC = b"tier4k-i"
VERSION = 1
HEADER = struct.Struct("<8sQQQ16s")  # magic, version, number of records, bytes of the description, digest
HEADER_BYTES = HEADER.size
BLOCK_BYTES = 2**22  # of one sequential read


def make_records(
    keys: np.ndarray,
    checks: np.ndarray,
    shard: int,
    first_row: int = 0,
) -> np.ndarray:
    """Return the records (N,) of rows of a shard.

    Args:
        keys: (N, 32) uint8.
        checks: (N,) checks of the rows.
        shard: Number of the shard.
        first_row: Row of the first key in the shard.
    """
    records = np.empty(len(keys), RECORD)
    records["words"] = key_words(keys)
    records["place"]["check"] = checks
    records["place"]["shard"] = shard
    records["place"]["row"] = np.arange(first_row, first_row + len(keys))
    return records


def key_words(keys: np.ndarray) -> np.ndarray:
    """Return keys (N, 32) as four numbers each, (N, 4) uint64."""
    return np.ascontiguousarray(keys).view(">u8").astype("<u8")


def keys_of(records: np.ndarray) -> np.ndarray:
    """Return the keys (N, 32) uint8 of records (N,)."""
    return records["words"].astype(">u8", order="C").view(np.uint8).reshape(-1, KEY_BYTES)


def sorted_distinct(records: np.ndarray) -> np.ndarray:
    """Return one record of each key, in the order of the keys: that with the lowest check.

    So the features of a key do not depend on the distribution of rows over shards.
    """
    ordered = records[np.argsort(records["words"][:, 0])]
    equal_prefix = ordered["words"][1:, 0] == ordered["words"][:-1, 0]
    if not equal_prefix.any():
        return ordered
    is_tied = np.zeros(len(ordered), bool)
    is_tied[1:] = equal_prefix
    is_tied[:-1] |= equal_prefix
    tied = ordered[is_tied]
    place = tied["place"]
    columns = (place["row"], place["shard"], place["check"], *tied["words"].T[::-1])
    ordered[is_tied] = tied[np.lexsort(columns)]
    differs = (ordered["words"][1:] != ordered["words"][:-1]).any(axis=1)
    return ordered[np.concatenate([[True], differs])]


def lower_check(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each of two places (M,) of one key the one that is stored and has the lower check."""
    is_better = (others["shard"] != NOWHERE) & (others["check"] < places["check"])
    return np.where(is_better | (places["shard"] == NOWHERE), others, places)


@dataclass(frozen=True)
class Run:
    """Records of distinct keys in the order of the keys.

    Attributes:
        window: Returns the records from one position up to another. Those of a file are memory maps that
            live as long as the array, so that the process uses little memory.
        starts: (257,) position of the first record of each first byte, and the number of records.
    """

    window: Callable[[int, int], np.ndarray]
    starts: np.ndarray

    @classmethod
    def in_memory(cls, records: np.ndarray) -> "Run":
        """Make a run of records (N,) in any order, of which several may have one key."""
        ordered = sorted_distinct(records)
        starts = np.searchsorted(ordered["words"][:, 0] >> np.uint64(56), np.arange(PARTS + 1))
        return cls(lambda start, stop: ordered[start:stop], starts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def part(self, byte: int) -> np.ndarray:
        """Return the records of the keys with this first byte."""
        return self.window(int(self.starts[byte]), int(self.starts[byte + 1]))

    def find(self, words: np.ndarray) -> np.ndarray:
        """Return the places (M,) of keys (M, 4); see `key_words`.

        Keys are searched in sorted order, which is faster: neighbours need the same pages of memory.
        """
        order = np.argsort(words[:, 0])
        wanted = words[order]
        bounds = np.searchsorted(wanted[:, 0] >> np.uint64(56), np.arange(PARTS + 1))
        found = np.empty(len(wanted), PLACE)
        for byte in np.flatnonzero(np.diff(bounds)).tolist():
            part = slice(bounds[byte], bounds[byte + 1])
            found[part] = _find(self.part(byte), wanted[part])
        places = np.empty_like(found)
        places[order] = found
        return places


def _find(records: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the places (M,) of keys (M, 4) in sorted records."""
    places = np.zeros(len(wanted), PLACE)
    places["shard"] = NOWHERE
    position = np.searchsorted(records["words"][:, 0], wanted[:, 0])
    unclear = np.arange(len(wanted))
    while len(unclear):  # a second time only for keys that share their first 8 bytes with another key
        unclear = unclear[position[unclear] < len(records)]
        candidates = records[position[unclear]]
        is_same = (candidates["words"] == wanted[unclear]).all(axis=1)
        places[unclear[is_same]] = candidates["place"][is_same]
        has_same_prefix = candidates["words"][:, 0] == wanted[unclear, 0]
        unclear = unclear[has_same_prefix & ~is_same]
        position[unclear] += 1
    return places


@dataclass(frozen=True)
class RecordFile:
    """An opened file of sorted records, whose content matched its digest.

    The file stays open, so that it can be read after another process has replaced it. Pickled objects do not
    contain it.

    Attributes:
        run: The records.
        about: What the file says about them.
    """

    run: Run
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "RecordFile | None":
        """Open a file; None if it is missing, unreadable, damaged or of another version."""
        try:
            file = _OpenFile(path)
            count, about = _read_description(file)
            starts = np.array(about["starts"], np.int64)
        except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
            return None
        if starts.shape != (PARTS + 1,) or starts[-1] != count:
            return None
        return cls(Run(lambda start, stop: _window(file, start, stop), starts), about)


def write_records(
    path: Path,
    parts: Iterable[np.ndarray],
    about: Mapping[str, object],
) -> None:
    """Write a file of sorted records in bounded memory.

    Args:
        path: The file.
        parts: The records of each first byte in turn, 256 arrays of distinct keys in order.
        about: Further values, which JSON can hold.

    Raises:
        OSError: The system refuses to write.
    """
    digest = xxhash.xxh3_128()
    starts = [0]
    with path.open("xb") as file:
        file.write(bytes(HEADER_BYTES))
        for records in parts:
            content = np.ascontiguousarray(records).view(np.uint8).data
            file.write(content)
            digest.update(content)
            starts.append(starts[-1] + len(records))
        description = json.dumps({**about, "starts": starts}).encode("ascii")
        file.write(description)
        digest.update(description)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, starts[-1], len(description), digest.digest()))


class _OpenFile:
    """A file that stays open until its last user ends.

    Attributes:
        path: The name by which it was opened.
        descriptor: Its number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


def _read_description(file: _OpenFile) -> tuple[int, dict[str, Any]]:
    """Return the number of records and what the file says about them, after a comparison with the digest.

    Raises:
        ValueError: The file is damaged or is no file of records of this version.
    """
    header = os.pread(file.descriptor, HEADER.size, 0)
    magic, version, count, length, expected = HEADER.unpack(header)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("another format")
    size = os.fstat(file.descriptor).st_size
    if size != HEADER_BYTES + count * RECORD.itemsize + length:
        raise ValueError("another size")
    digest = xxhash.xxh3_128()
    for block in _blocks(file, size):
        digest.update(block)
    if digest.digest() != expected:
        raise ValueError("another digest")
    return count, json.loads(os.pread(file.descriptor, length, size - length))


def _blocks(file: _OpenFile, size: int) -> Iterator[memoryview]:
    """Yield all bytes after the header; reading takes less memory than a map."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    position = HEADER_BYTES
    while position < size:
        read = os.preadv(file.descriptor, [buffer[: size - position]], position)
        if not read:
            raise ValueError("the file ends too early")
        yield buffer[:read]
        position += read


def _window(file: _OpenFile, start: int, stop: int) -> np.ndarray:
    """Return records of an open file as a map.

    Raises:
        VanishedShardError: A share no longer gives the content of a file that was replaced.
    """
    if start == stop:
        return np.empty(0, RECORD)
    try:
        is_whole = os.fstat(file.descriptor).st_size >= HEADER_BYTES + stop * RECORD.itemsize
        if is_whole:
            return map_array(file.descriptor, HEADER_BYTES + start * RECORD.itemsize, RECORD, stop - start)
    except OSError as error:
        raise VanishedShardError(f"{file.path} no longer exists ({error.strerror or error})") from error
    raise VanishedShardError(f"{file.path} was cut short")
