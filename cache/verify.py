"""Checking a store against its checksums, and setting damaged shards aside so that the next extraction refills the gap."""

from dataclasses import dataclass
from pathlib import Path

from cache.errors import TierError
from cache.shard import Shard
from cache.store import FeatureStore, writing

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Verification:
    """What reading every byte of a store showed.

    Attributes:
        store: Folder of the store.
        sound: Shards that hold what was written.
        rows: Rows of these.
        damaged: Every other shard, with what is wrong with it.
    """

    store: Path
    sound: int
    rows: int
    damaged: dict[Path, str]


def verify(store: FeatureStore) -> Verification:
    """Read every shard and compare it with its checksum and its store's signature, one shard in memory at a time."""
    rows, sound = 0, 0
    damaged: dict[Path, str] = {}
    for path in store.files():
        try:
            shard = Shard.open(path)
            store.require_own(shard)
            shard.read()
        except TierError as error:
            damaged[path] = str(error).splitlines()[0]
        else:
            rows, sound = rows + len(shard.keys), sound + 1
    return Verification(store.path, sound, rows, damaged)


def set_aside(verification: Verification) -> list[Path]:
    """Rename the damaged shards to `<name>.damaged`, which no reader looks at, and return their new names.

    Raises:
        StoreError: The folder cannot be written to.
    """
    with writing(verification.store):
        return [path.rename(path.with_name(path.name + DAMAGED_SUFFIX)) for path in verification.damaged]
