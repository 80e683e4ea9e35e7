"""Adding rows to a store, shard by shard."""

import os
import time
from pathlib import Path
from types import TracebackType

import numpy as np

from tier4k.cache.atomic import remove_dead
from tier4k.cache.new_shard import write_shard
from tier4k.cache.rounding import as_stored
from tier4k.cache.signature import SIGNATURE_FILE, Signature
from tier4k.cache.write_errors import explain_store_write_errors

SHARD_ROWS = 4096
SHARD_BYTES = 2**25
SHARD_SECONDS = 40.0


class ShardWriter:
    """A context that collects encoded rows and publishes them in shards.

    A shard is published when it has enough rows or bytes, or `SHARD_SECONDS` after the previous shard. So a
    killed run loses the work of these seconds, and what was being encoded: a batch, or on a GPU two units.
    Memory stays bounded for rows of any width.

    The end of the context, even by an error, publishes the remaining rows.

    Attributes:
        rows: Number of rows added so far.
    """

    def __init__(
        self,
        path: Path,
        signature: Signature,
        shard_rows: int,
    ) -> None:
        self.rows = 0
        self._path = path
        self._signature = signature
        self._shard_rows = shard_rows
        self._keys: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._published = time.monotonic()
        self._folder: int | None = None

    def add(self, keys: np.ndarray, features: np.ndarray) -> None:
        """Add keys (B, 32) and their features (B, ...), which are rounded to the signature's dtype.

        Raises:
            StoreError: A feature is too large for the dtype, so that none of them is added; or a shard is
                due and cannot be written.
            ShardError: A shard is due and contains NaN or infinity.
        """
        rounded = as_stored(features, self._signature.dtype)
        self._keys.append(keys)
        self._features.append(rounded)
        self.rows += len(keys)
        self.publish_if_due()

    def publish_if_due(self) -> None:
        """Publish the collected rows if they are enough or old enough.

        Raises:
            StoreError: The shard cannot be written.
            ShardError: A feature is NaN or infinite.
        """
        if self._is_due():
            self.publish()

    def publish(self) -> None:
        """Publish the collected rows as one shard.

        Raises:
            StoreError: The shard cannot be written.
            ShardError: A feature is NaN or infinite.
        """
        if not self._collected_rows():
            return
        keys = np.concatenate(self._keys)
        features = np.concatenate(self._features)
        self._keys = []
        self._features = []
        self._published = time.monotonic()
        with explain_store_write_errors(self._path):
            self._require_same_folder()
            write_shard(self._path, self._signature.digest, keys, features)

    def _is_due(self) -> bool:
        if self._collected_rows() >= self._shard_rows:
            return True
        if sum(block.nbytes for block in self._features) >= SHARD_BYTES:
            return True
        return time.monotonic() - self._published >= SHARD_SECONDS

    def _collected_rows(self) -> int:
        return sum(map(len, self._keys))

    def _require_same_folder(self) -> None:
        """Raise FileNotFoundError if the store was removed, even if another process made a new one."""
        os.stat(self._path / SIGNATURE_FILE)
        if self._folder is None:
            return
        if not os.path.samestat(os.fstat(self._folder), os.stat(self._path)):
            raise FileNotFoundError(self._path)

    def __enter__(self) -> "ShardWriter":
        with explain_store_write_errors(self._path):
            remove_dead(self._path)
            # While the folder is open, no other folder gets its inode number.
            self._folder = os.open(self._path, os.O_RDONLY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a failed write no rows are left, so the same write is never tried twice.
        try:
            self.publish()
        finally:
            if self._folder is not None:
                os.close(self._folder)
