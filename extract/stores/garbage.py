"""What a folder of stores holds that nobody needs any more."""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tier4k.cache.store import FeatureStore, broken_stores, discard, discarded, stores, writing
from tier4k.cache.verify import DAMAGED_SUFFIX
from tier4k.extract.pipeline.records import DatasetRecord, record_files
from tier4k.extract.stores.choices import HOURS_IN_USE


@dataclass(frozen=True)
class Finding:
    """One file or folder, and whether it can be removed.

    Attributes:
        path: Where it is.
        kept: Whether somebody may need it.
        why: Why it is kept, or why nobody needs it.
        megabytes: Its size, 10^6 bytes.
        newest: Time of its newest file, in seconds as `time.time` counts them; 0 where there is no file.
    """

    path: Path
    kept: bool
    why: str
    megabytes: float
    newest: float


def review(root: Path, used: Collection[str], hours: float = HOURS_IN_USE) -> list[Finding]:
    """What is kept and what can be removed under `root`.

    What can go: stores that neither a data set nor a run uses, records of data sets that no longer exist,
    damaged shards, and what an interrupted removal left.

    Args:
        root: Folder of stores.
        used: Signature digests of stores that runs use.
        hours: A store whose newest file is younger counts as used.

    Raises:
        StoreError: The record of a data set is damaged, so that it is not known what it uses.
    """
    records = record_files(root)
    dead = {path: record for path, record in records.items() if not Path(record.data).exists()}
    living = [record for path, record in records.items() if path not in dead]
    findings = [_finding(path, False, "an interrupted removal left it") for path in discarded(root)]
    for path, record in dead.items():
        findings.append(_finding(path, False, f"the data set {record.data} no longer exists"))
    for store in stores(root):
        own = _of_store(store, used, living, hours)
        findings.append(own)
        if own.kept:
            damaged = sorted(store.path.glob(f"*{DAMAGED_SUFFIX}"))
            findings += [_finding(path, False, "a damaged shard, set aside") for path in damaged]
    unknown = "it cannot be opened, so its use is unknown"
    return findings + [_finding(path, True, unknown) for path in broken_stores(root)]


def remove(finding: Finding) -> bool:
    """Remove it from the disk. False where it is a store that was written to since the review; it stays.

    Raises:
        StoreError: The system refuses.
    """
    path = finding.path
    if not path.is_dir():
        with writing(path):
            path.unlink(missing_ok=True)
    elif _newest(path) > finding.newest:
        return False
    else:
        discard(path)
    return True


def _of_store(
    store: FeatureStore,
    used: Collection[str],
    living: Sequence[DatasetRecord],
    hours: float,
) -> Finding:
    found = _finding(store.path, True, "")
    age = max(time.time() - found.newest, 0) / 3600
    kept, why = True, f"its newest file is {age:.1f} hours old, younger than {hours:g} hours (--older-than)"
    if store.path.is_symlink():
        why = "it is a link, which you have to remove yourself"
    elif store.signature.digest in used:
        why = "a run uses it"
    elif users := [record for record in living if _uses(record, store)]:
        why = f"the data set {users[0].data} uses it"
    elif age >= hours:
        kept, why = False, f"no existing data set and no run uses it, its newest file is {age:.1f} hours old"
    return replace(found, kept=kept, why=why)


def _uses(record: DatasetRecord, store: FeatureStore) -> bool:
    return bool(store.holds(record.keys_of(store.signature.stream)).any())


def _finding(path: Path, kept: bool, why: str) -> Finding:
    newest = _newest(path)  # before the size: what is written in between is noticed when it is to be removed
    return Finding(path, kept, why, sum(file.st_size for file in _file_stats(path)) / 1e6, newest)


def _newest(path: Path) -> float:
    return max((file.st_mtime for file in _file_stats(path)), default=0.0)


def _file_stats(path: Path) -> Iterator[os.stat_result]:
    """Of the files under `path`, or of `path` itself. Those that another process removes are left out."""
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in inside if path.is_dir() else [path]:
        with suppress(FileNotFoundError):
            yield os.stat(file)
