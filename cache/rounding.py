"""Features in the type of the numbers that a store contains."""

import numpy as np

from tier4k.cache.errors import StoreError


def as_stored(features: np.ndarray, dtype: str) -> np.ndarray:
    """Return features (..., D) rounded to the type of a store.

    NaN and infinity stay: the shard refuses them, because they are faults of the encoder.

    Args:
        features: The features as an encoder computes them, float32.
        dtype: The type of the store, as in its signature.

    Raises:
        StoreError: A finite feature would become infinite.
    """
    if features.dtype == dtype:
        return features
    with np.errstate(over="ignore"):
        rounded = features.astype(dtype)
    lost = features[np.isinf(rounded) & np.isfinite(features)]
    if lost.size:
        largest = lost[np.abs(lost).argmax()]
        raise StoreError(
            f"a feature has the value {largest:g}, and {dtype} holds numbers up to {np.finfo(dtype).max:g} "
            "only: extract with --store-dtype float32, and fit heads on those features"
        )
    return rounded
