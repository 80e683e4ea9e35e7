"""What a folder of stores holds that nobody needs any more."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.store import FeatureStore, stores, writing
from tier4k.cache.verify import DAMAGED_SUFFIX
from tier4k.extract.pipeline.records import DatasetRecord, record_files


@dataclass(frozen=True)
class Garbage:
    """One file or folder that can be removed.

    Attributes:
        path: Where it is.
        why: Why nobody needs it.
        megabytes: Its size, 10^6 bytes.
    """

    path: Path
    why: str
    megabytes: float


def find_garbage(root: Path, used: Collection[str]) -> list[Garbage]:
    """What can be removed under `root`: stores that neither a data set nor a run uses, records of data sets that are gone, damaged shards.

    A store that cannot be opened is left alone, as nothing is known of its use.

    Args:
        root: Folder of stores.
        used: Signature digests of stores that runs use.

    Raises:
        StoreError: The record of a data set is damaged, so that it is not known what it uses.
    """
    found = record_files(root)
    living = [record for record in found.values() if Path(record.data).exists()]
    dead = {path: record for path, record in found.items() if not Path(record.data).exists()}
    garbage = [
        _garbage(path, f"the data set {record.data} is not there any more") for path, record in dead.items()
    ]
    for store in stores(root):
        if store.signature.digest in used or any(_uses(record, store) for record in living):
            garbage += [
                _garbage(path, "a damaged shard, set aside")
                for path in sorted(store.path.glob(f"*{DAMAGED_SUFFIX}"))
            ]
        else:
            garbage.append(_garbage(store.path, "no data set that is there and no run uses it"))
    return garbage


def remove(garbage: Garbage) -> None:
    """Remove it from the disk.

    Raises:
        StoreError: The system refuses.
    """
    with writing(garbage.path):
        if garbage.path.is_dir():
            shutil.rmtree(garbage.path)
        else:
            garbage.path.unlink(missing_ok=True)


def _uses(record: DatasetRecord, store: FeatureStore) -> bool:
    return bool(store.holds(record.keys_of(store.signature.stream)).any())


def _garbage(path: Path, why: str) -> Garbage:
    return Garbage(path, why, sum(file.stat().st_size for file in _files(path)) / 1e6)


def _files(path: Path) -> Iterator[Path]:
    return (file for file in (path, *path.rglob("*")) if file.is_file())
