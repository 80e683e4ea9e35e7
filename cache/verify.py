"""Checking a store against its checksums, and setting damaged shards aside so that the next extraction refills the gap."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.shard import Shard, ShardError, VanishedShardError
from tier4k.cache.signature import SignatureError
from tier4k.cache.store import FeatureStore, writing_store

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
    """Read every shard and compare it with its checksums, its store's signature and the other shards, one block in memory at a time.

    A shard that a compaction takes away in the meantime is left out, and the one it makes is read.

    Raises:
        UnreadableShardError: The system refuses to read a shard, which says nothing of its content.
    """
    sound: dict[Path, tuple[int, tuple[int, ...]]] = {}
    damaged: dict[Path, str] = {}
    seen: set[Path] = set()
    while unseen := [path for path in store.files() if path not in seen]:
        for path in unseen:
            seen.add(path)
            try:
                shard = Shard.open(path)
                store.require_own(shard)
                for _ in shard.blocks():
                    pass
            except VanishedShardError:
                continue
            except (ShardError, SignatureError) as error:
                damaged[path] = str(error).splitlines()[0]
            else:
                sound[path] = len(shard.keys), shard.shape
    rows_of_shape: Counter[tuple[int, ...]] = Counter()
    for rows, shape in sound.values():
        rows_of_shape[shape] += rows
    for path, (_, shape) in list(sound.items()):
        if shape != rows_of_shape.most_common(1)[0][0]:
            damaged[path] = f"{path}: its rows are of shape {shape}, those of most others are not"
            del sound[path]
    return Verification(store.path, len(sound), sum(rows for rows, _ in sound.values()), damaged)


def set_aside(verification: Verification) -> list[Path]:
    """Rename the damaged shards to `<name>.damaged`, which no reader looks at, and return their new names.

    Raises:
        StoreError: The folder cannot be written to.
    """
    with writing_store(verification.store):
        return [path.rename(path.with_name(path.name + DAMAGED_SUFFIX)) for path in verification.damaged]
