"""Hashing images: each file is read once, until it changes."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xxhash
from joblib import cpu_count

from tier4k.cache.keys import KEY_BYTES
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.entries import IDENTITY_BYTES
from tier4k.extract.datasets.hashes.processes import Processes
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.images.content import key_with_header
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.file_state import FileState
from tier4k.extract.images.header import read_header
from tier4k.extract.images.place_names import is_url, parse_parquet_place
from tier4k.extract.images.places import read_bytes, reading_order, state

TURNED, TRANSPARENT = 1, 2  # flags of an image

# Images that a thread hashes in one go. A task for each image would cost more than to hash a small one.
AT_ONCE = 256

URL_THREADS = 32  # wait for servers most of the time

# Images of one call from which on processes save more than the half second of their start.
MANY = 2**15

LOOKED_UP_AT_ONCE = 2**12  # to look up a file takes a tenth of the time of reading it

Result = TypeVar("Result")

_NO_KEY = bytes(KEY_BYTES)
_NO_IDENTITY = bytes(IDENTITY_BYTES)

_pack_state = struct.Struct("<2Q2q").pack  # times before 1970 are negative


@dataclass(frozen=True)
class HashedImages:
    """Content keys of N images.

    Attributes:
        keys: (N, 32) uint8, content keys; 0 for an image that cannot be read.
        flags: (N,) uint8, sums of `TURNED` and `TRANSPARENT`.
        problems: {index: why the image cannot be read}.
        missing: (M,) indices of the problems whose file does not exist.
    """

    keys: np.ndarray
    flags: np.ndarray
    problems: dict[int, str]
    missing: np.ndarray

    @property
    def is_turned(self) -> np.ndarray:
        """Whether each image (N,) is turned upright when it is decoded."""
        return (self.flags & TURNED).astype(bool)

    @property
    def is_transparent(self) -> np.ndarray:
        """Whether each image (N,) is composited onto white when it is decoded."""
        return (self.flags & TRANSPARENT).astype(bool)


@dataclass(frozen=True)
class _Contents:
    """Keys and flags of N images that were read.

    Attributes:
        identities: (N, 16) uint8; 0 for a file that must be read again the next time.
        keys: (N, 32) uint8; 0 for an image that cannot be read.
        flags: (N,) uint8.
        errors: {place: (why it cannot be read, whether its file does not exist)}.
    """

    identities: np.ndarray
    keys: np.ndarray
    flags: np.ndarray
    errors: dict[str, tuple[str, bool]]

    @classmethod
    def joined(cls, parts: "Sequence[_Contents]") -> "_Contents":
        """Join parts, which may be none."""
        parts = [_read_images(()), *parts]
        return cls(
            np.concatenate([part.identities for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.flags for part in parts]),
            {place: error for part in parts for place, error in part.errors.items()},
        )


class ImageHasher:
    """Returns the content keys of images, and reads only those that its cache does not know."""

    def __init__(self, cache: KeyCache, rehash: bool = False) -> None:
        """Prepare hashing.

        Args:
            cache: Keys of images that were hashed before; those of further ones are added.
            rehash: Whether all images are read, and wrong entries of the cache corrected.
        """
        self._cache = cache
        self._rehash = rehash
        self._processes = Processes()

    def hash(
        self,
        places: Sequence[str],
        progress: Progress | None = None,
    ) -> HashedImages:
        """Hash images without decoding them.

        Args:
            places: N places of images.
            progress: Called with (images done, images in all).

        Raises:
            StoreError: The cache is due to be written, and the system refuses.
            EndedProcessError: A process that reads images has ended.
        """
        keys, flags, is_known = self._cache.find(self._identities(places))
        unread = np.arange(len(places)) if self._rehash else np.flatnonzero(~is_known)
        wanted = reading_order({places[index] for index in unread.tolist()})
        contents = self._read(wanted, len(places), progress or no_progress)
        row_of = {place: row for row, place in enumerate(wanted)}
        rows = np.array([row_of[places[index]] for index in unread.tolist()], int)
        keys[unread], flags[unread] = contents.keys[rows], contents.flags[rows]
        problems, missing = _problems(places, unread, contents.errors)
        return HashedImages(keys, flags, problems, missing)

    def publish(self) -> None:
        """Publish what the cache does not have on the disk yet.

        Raises:
            StoreError: The system refuses to write.
        """
        self._cache.publish()

    def close(self) -> None:
        """End the processes that have read images."""
        self._processes.close()

    def _identities(self, places: Sequence[str]) -> np.ndarray:
        """Return the identity (N, 16) of each image as its file is now; 0 for one without a file."""
        if len(places) < MANY:
            return _identities(places)
        parts = self._processes.map(_identities, _chunks(places, LOOKED_UP_AT_ONCE))
        return np.concatenate(list(parts))

    def _read(
        self,
        places: Sequence[str],
        total: int,
        report: Progress,
    ) -> _Contents:
        """Read images, and remember those of each chunk; the others of the total count as done."""
        done = total - len(places)
        if done:
            report(done, total)
        parts = []
        for part in self._contents(places):
            self._remember(part)
            parts.append(part)
            done += len(part.keys)
            report(done, total)
        return _Contents.joined(parts)

    def _contents(self, places: Sequence[str]) -> Iterator[_Contents]:
        """Read images in chunks, in their order."""
        if len(places) < MANY or not all(map(_is_in_small_parts, places)):
            return _in_threads(_read_images, places)
        return self._processes.map(_read_images, _chunks(places, AT_ONCE))

    def _remember(self, contents: _Contents) -> None:
        is_new = contents.identities.any(axis=1)
        if self._rehash:
            keys, flags, is_known = self._cache.find(contents.identities)
            is_wrong = (keys != contents.keys).any(axis=1) | (flags != contents.flags)
            is_new &= ~is_known | is_wrong
        self._cache.add(contents.identities[is_new], contents.keys[is_new], contents.flags[is_new])


def _identities(places: Sequence[str]) -> np.ndarray:
    """Return the identity (N, 16) of each image as its file is now; 0 for one without a file.

    Every place is first looked up as the path of a file, so that a usual data set of many files takes one
    system call for each. The places that are no path are parts of files, or at URLs.
    """
    identities, others = [], []
    for index, place in enumerate(places):
        try:
            now = os.stat(place)
        except (OSError, ValueError):
            identities.append(_NO_IDENTITY)
            others.append(index)
            continue
        identities.append(_identity(place, now.st_size, now.st_ino, now.st_mtime_ns, now.st_ctime_ns))
    found = _rows(identities, IDENTITY_BYTES)
    if others:
        parts = _in_threads(_other_identities, [places[index] for index in others])
        found[others] = np.concatenate(list(parts))
    return found


def _other_identities(places: Sequence[str]) -> np.ndarray:
    identities = []
    for place in places:
        try:
            identities.append(_identity_in(place, state(place)))
        except ImageError:
            identities.append(_NO_IDENTITY)
    return _rows(identities, IDENTITY_BYTES)


def _rows(values: Sequence[bytes], width: int) -> np.ndarray:
    """Return values of equal length as an array (N, width) uint8."""
    return np.frombuffer(bytearray().join(values), np.uint8).reshape(-1, width)


def _identity(
    place: str,
    size: int,
    inode: int,
    modified_ns: int,
    changed_ns: int,
) -> bytes:
    """Return the XXH3-128 of a place and the state of the file that holds the image.

    The device is left out: its number may change when a disk is mounted again.
    """
    numbers = _pack_state(size, inode, modified_ns, changed_ns)
    return xxhash.xxh3_128_digest(place.encode("utf-8", "surrogateescape") + numbers)


def _identity_in(place: str, file: FileState) -> bytes:
    """Return the identity of an image whose file is in a state."""
    return _identity(place, file.size, file.inode, file.modified_ns, file.changed_ns)


def _is_in_small_parts(place: str) -> bool:
    """Return whether an image is read alone: not by a server, and not with its neighbours in a table."""
    return not is_url(place) and parse_parquet_place(place) is None


def _chunks(places: Sequence[str], size: int) -> list[Sequence[str]]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _in_threads(work: Callable[[Sequence[str]], Result], places: Sequence[str]) -> Iterator[Result]:
    """Yield what `work` returns for each chunk of places, in order."""
    threads = URL_THREADS if any(map(is_url, places)) else cpu_count()
    at_once = min(-(-len(places) // (4 * threads)), AT_ONCE) or 1
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, _chunks(places, at_once))


def _read_images(places: Sequence[str]) -> _Contents:
    identities, keys, flags = [], [], bytearray()
    errors = {}
    for place in places:
        try:
            identity, key, flag = _read_image(place)
        except ImageError as error:
            identity, key, flag = _NO_IDENTITY, _NO_KEY, 0
            errors[place] = str(error), isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError))
        identities.append(identity)
        keys.append(key)
        flags.append(flag)
    return _Contents(
        _rows(identities, IDENTITY_BYTES),
        _rows(keys, KEY_BYTES),
        np.frombuffer(flags, np.uint8),
        errors,
    )


def _read_image(place: str) -> tuple[bytes, bytes, int]:
    """Return identity, content key and flags of an image.

    Raises:
        ImageError: It cannot be read.
    """
    before = state(place)  # a file that changes while it is read has another state afterwards
    is_settled = before.is_settled
    data = read_bytes(place)
    header = read_header(data)
    flags = TURNED * header.is_turned + TRANSPARENT * header.is_transparent
    identity = _identity_in(place, before) if is_settled else _NO_IDENTITY
    return identity, key_with_header(data, header), flags


def _problems(
    places: Sequence[str],
    unread: np.ndarray,
    errors: dict[str, tuple[str, bool]],
) -> tuple[dict[int, str], np.ndarray]:
    """Return the problems by index, and the indices of the missing files."""
    problems, missing = {}, []
    for index in unread.tolist() if errors else ():
        if places[index] in errors:
            problems[index], is_missing = errors[places[index]]
            if is_missing:
                missing.append(index)
    return problems, np.array(missing, np.int64)
