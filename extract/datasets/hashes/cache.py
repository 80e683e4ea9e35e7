"""The hash cache: content keys of images whose files were hashed before."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.hashes.entries import Entries, concatenated, identity_numbers, merged
from tier4k.extract.datasets.hashes.files import (
    DamagedFileError,
    HashFile,
    list_hash_files,
    open_hash_file,
    write_hash_file,
)

HASHES = "hashes"  # the folder of the cache in a features folder

PUBLISHED_ROWS = 2**20
PUBLISHED_SECONDS = 60.0

# New entries are merged with an older file unless that has more than this many times as many. So each file is
# larger than the next newer one by this factor, and an entry is written only a few times.
GROWTH = 2


class KeyCache:
    """Content keys by the identities of files, kept in a folder or only in memory.

    Several processes may add to one folder at once: each publishes files of its own, and merges small ones
    into larger ones. A killed process loses what it added since it last published, at most a minute of work.
    A damaged file is ignored, and removed when other entries are published. One thread at a time may use an
    object.
    """

    def __init__(self, folder: Path | None) -> None:
        """Open a cache.

        Args:
            folder: Folder of the cache, which need not exist; one that may not be written is only read. None
                keeps the entries in memory.
        """
        self._folder = folder
        self._is_writable = folder is not None and _is_writable(folder)
        self._files: list[HashFile] = []  # the oldest first
        self._damaged: list[Path] = []
        self._added: list[Entries] = []  # not published, the oldest first
        self._published = time.monotonic()
        self._open_files()

    def find(self, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Look up the identities of files.

        Args:
            identities: (N, 16) uint8.

        Returns:
            Content keys (N, 32) uint8, flags (N,) uint8, and whether each is known (N,); keys and flags of
            unknown ones are 0.
        """
        keys = np.zeros((len(identities), KEY_BYTES), np.uint8)
        flags = np.zeros(len(identities), np.uint8)
        is_known = np.zeros(len(identities), bool)
        first, second = identity_numbers(identities)
        wanted = np.argsort(first)
        for entries in self._newest_first():
            position = entries.find(first[wanted], second[wanted])
            is_here = position >= 0
            found, position = wanted[is_here], position[is_here]
            keys[found] = entries.keys[position]
            flags[found] = entries.flags[position]
            is_known[found] = True
            wanted = wanted[~is_here]
        return keys, flags, is_known

    def add(
        self,
        identities: np.ndarray,
        keys: np.ndarray,
        flags: np.ndarray,
    ) -> None:
        """Add entries, which replace those of the same identities, and publish them from time to time.

        Args:
            identities: (N, 16) uint8.
            keys: (N, 32) uint8, content keys.
            flags: (N,) uint8.

        Raises:
            StoreError: The entries are to be published, and the system refuses to write.
        """
        if not len(identities):
            return
        self._added.append(Entries.of(identities, keys, flags))
        start = _merge_start([len(entries) for entries in self._added[:-1]], len(self._added[-1]))
        self._added[start:] = [concatenated(list(merged(self._added[start:])))]
        is_due = time.monotonic() - self._published > PUBLISHED_SECONDS
        if is_due or sum(map(len, self._added)) >= PUBLISHED_ROWS:
            self.publish()

    def publish(self) -> None:
        """Write what was added, and merge small files; not without a folder that may be written.

        Raises:
            StoreError: The system refuses to write.
        """
        self._published = time.monotonic()
        if self._folder is None or not self._is_writable or not self._added:
            return
        with explain_write_errors(self._folder):
            self._open_files()
            start = _merge_start([len(file.entries) for file in self._files], sum(map(len, self._added)))
            replaced = self._files[start:]
            parts = [*(file.entries for file in replaced), *self._added]
            count = sum(len(block) for block in merged(parts))
            write_hash_file(self._folder, self._now(), count, merged(parts))
            for path in (*(file.path for file in replaced), *self._damaged):
                path.unlink(missing_ok=True)
            self._added = []
            self._open_files()  # another process may have merged the new file already

    def _now(self) -> int:
        """Return a time (ns) after those of all files, also if the clock was set back: the newest counts."""
        return max([time.time_ns(), *(file.written_ns + 1 for file in self._files)])

    def _newest_first(self) -> list[Entries]:
        return [*self._added[::-1], *(file.entries for file in self._files[::-1])]

    def _open_files(self) -> None:
        """Map the files of the folder that are not mapped yet, and forget those that were merged."""
        if self._folder is None:
            return
        opened = {file.path: file for file in self._files}
        listed = None
        while (now := list_hash_files(self._folder)) != listed:
            listed = now
            if self._open_listed(listed, opened):
                return

    def _open_listed(self, paths: Sequence[Path], opened: dict[Path, HashFile]) -> bool:
        """Map these files; return False if one is gone, as another process has just merged it."""
        self._files, self._damaged = [], []
        for path in paths:
            try:
                self._files.append(opened.get(path) or open_hash_file(path))
            except DamagedFileError:
                self._damaged.append(path)
            except FileNotFoundError:
                return False
            except OSError:
                continue  # a file that may not be read: its images are hashed again
        return True


def _is_writable(folder: Path) -> bool:
    """Return whether the user may write to a folder, or make it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _merge_start(counts: Sequence[int], added: int) -> int:
    """Return the index of the first part that is merged with added entries.

    Args:
        counts: Number of entries of each part, the oldest first.
        added: Number of added entries.
    """
    start, total = len(counts), added
    while start and counts[start - 1] <= GROWTH * total:
        start -= 1
        total += counts[start]
    return start
