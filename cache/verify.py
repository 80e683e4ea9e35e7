"""Verification of a store against its checksums.

Damaged shards can be renamed, so that no reader opens them and the next extraction encodes their rows again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import ShardError, VanishedShardError
from tier4k.cache.signature import SignatureError
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_store_write_errors

DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        store: Folder of the store.
        sound: Number of sound shards.
        rows: Number of rows in the sound shards.
        damaged: The problem of every damaged shard, by path.
    """

    store: Path
    sound: int
    rows: int
    damaged: dict[Path, str]


def verify(store: FeatureStore, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Compare every shard with its checksums, its store's signature and the other shards.

    Every byte is read, with one block in memory at a time. If a compaction removes a shard meanwhile, the new
    shard is read instead.

    Args:
        store: The store.
        progress: Called with the number of shards that were read, and of all shards.

    Raises:
        UnreadableShardError: The system refuses to read a shard; its content may be sound.
    """
    sound: dict[Path, _Size] = {}
    damaged: dict[Path, str] = {}
    paths_read: set[Path] = set()
    while unread_paths := [path for path in store.files() if path not in paths_read]:
        paths_read.update(unread_paths)
        for path in unread_paths:
            try:
                sound[path] = _read_whole(store, path)
            except VanishedShardError:
                continue
            except (ShardError, SignatureError) as error:
                damaged[path] = str(error).splitlines()[0]
            if progress:
                progress(len(sound) + len(damaged), len(paths_read))
    for path in _odd_shapes(sound):
        shape = sound.pop(path).shape
        damaged[path] = (
            f"{path} contains rows of shape {shape}, but most rows of the store have another shape"
        )
    rows = sum(size.rows for size in sound.values())
    return Verification(store.path, len(sound), rows, damaged)


@dataclass(frozen=True)
class _Size:
    rows: int
    shape: tuple[int, ...]  # of one row


def _read_whole(store: FeatureStore, path: Path) -> _Size:
    shard = Shard.open(path)
    store.require_member(shard)
    for _ in shard.blocks():
        pass
    return _Size(len(shard.keys), shard.shape)


def _odd_shapes(sizes: dict[Path, _Size]) -> list[Path]:
    """Return the shards whose shape differs from the shape of most rows."""
    if not sizes:
        return []
    rows_of_shape: Counter[tuple[int, ...]] = Counter()
    for size in sizes.values():
        rows_of_shape[size.shape] += size.rows
    usual_shape = rows_of_shape.most_common(1)[0][0]
    return [path for path, size in sizes.items() if size.shape != usual_shape]


def set_aside(verification: Verification) -> list[Path]:
    """Rename the damaged shards to `<name>.damaged`, which no reader opens, and return their new names.

    Raises:
        StoreError: The folder cannot be written to.
    """
    with explain_store_write_errors(verification.store):
        return [path.rename(path.with_name(path.name + DAMAGED_SUFFIX)) for path in verification.damaged]
