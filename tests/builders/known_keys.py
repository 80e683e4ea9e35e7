"""Keys that count as known, without a store."""

from collections.abc import Iterable

import numpy as np


class Known:
    """Hexadecimal keys as an object that says which keys it holds."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = frozenset(keys)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        return np.array([key.tobytes().hex() in self.keys for key in keys], bool)
