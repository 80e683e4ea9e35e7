"""Which inputs are in any of several stores."""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.cache.store import FeatureStore


class StoredKeys:
    """The keys of several stores; a damaged store has none."""

    def __init__(self, stores: Iterable[FeatureStore]) -> None:
        """Take the keys of these stores."""
        self._stores = tuple(stores)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return whether each key (M, 32) is in a store, as (M,) bool."""
        is_stored = np.zeros(len(keys), bool)
        for store in self._stores:
            with suppress(TierError):
                is_stored |= store.holds(keys)
        return is_stored
