"""Listing of the stores in a folder."""

from collections.abc import Iterator
from pathlib import Path

from tier4k.cache.errors import StoreError, TierError
from tier4k.cache.removal import REMOVED_PREFIX
from tier4k.cache.signature import SIGNATURE_FILE
from tier4k.cache.store import FeatureStore


def stores(root: Path) -> Iterator[FeatureStore]:
    """Return the stores under `root` that can be opened, in the order of their names."""
    opened = _open_all(root).values()
    return (store for store in opened if isinstance(store, FeatureStore))


def broken_stores(root: Path) -> dict[Path, str]:
    """Return the folders under `root` with an unusable signature.json, each with the reason."""
    reasons = {}
    for path, error in _open_all(root).items():
        if isinstance(error, TierError):
            reasons[path] = str(error)
    return reasons


def require_stores(root: Path) -> list[FeatureStore]:
    """Return the stores under `root` that can be opened.

    Raises:
        StoreError: No store can be opened.
    """
    usable_stores = list(stores(root))
    if usable_stores:
        return usable_stores
    message = (
        f"there are no feature stores in {root}: "
        f"run `tier extract DATA --features {root}` first, or pass another --features"
    )
    raise StoreError("\n".join([message, *broken_stores(root).values()]))


def _open_all(root: Path) -> dict[Path, FeatureStore | TierError]:
    opened: dict[Path, FeatureStore | TierError] = {}
    for file in sorted(root.glob(f"*/{SIGNATURE_FILE}")):
        folder = file.parent
        if folder.name.startswith(REMOVED_PREFIX):
            continue
        try:
            opened[folder] = FeatureStore.open(folder)
        except TierError as error:
            opened[folder] = error
    return opened
