"""Unused files in a folder of stores, and their removal."""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.listing import broken_stores, stores
from tier4k.cache.removal import remove_store, unfinished_removals
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import DAMAGED_SUFFIX
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.images.place_names import is_url
from tier4k.extract.inputs.record import FOLDER as RECORDS
from tier4k.extract.inputs.record import DatasetRecord, records
from tier4k.extract.stores.choices import HOURS_IN_USE


@dataclass(frozen=True)
class Finding:
    """One file or folder, and whether it can be removed.

    Attributes:
        path: The file or folder.
        kept: Whether it may be needed.
        why: The reason for keeping or removing it.
        megabytes: Size of the file or folder in 10^6 bytes.
        newest: Modification time of the newest file, in seconds as `time.time` counts them; 0 without files.
    """

    path: Path
    kept: bool
    why: str
    megabytes: float
    newest: float


def review(
    root: Path,
    used: Collection[str],
    hours: float = HOURS_IN_USE,
) -> list[Finding]:
    """List the files and folders under `root`, and for each whether it can be removed.

    Removable are stores that no data set and no run uses, records of data sets that no longer exist, damaged
    shards that `tier store verify --repair` renamed, and the leftovers of an interrupted removal.

    Args:
        root: Folder of stores.
        used: Signature digests of stores that runs use.
        hours: A store whose newest file is younger than this counts as used.

    While a record is damaged, every store is kept, because the data set of the record may use it.
    """
    leftovers = [*unfinished_removals(root), *unfinished_removals(root / RECORDS)]
    findings = [_finding(path, False, "an interrupted removal left this folder") for path in leftovers]
    existing: list[DatasetRecord] = []
    found = records(root)
    for record in found.sound:
        data = record.about.data
        if is_url(data) or os.path.exists(data):
            existing.append(record)
        else:
            why = f"the data set {data} of this record no longer exists"
            findings.append(_finding(record.path, False, why))
    for path in found.damaged:
        findings.append(_finding(path, True, "the record is damaged, so it is unknown which stores it uses"))
    for store in stores(root):
        findings += _review_store(store, used, existing, list(found.damaged), hours)
    for path in broken_stores(root):
        findings.append(
            _finding(path, True, "the store cannot be opened, so it is unknown whether a run uses it")
        )
    return findings


def remove(finding: Finding) -> bool:
    """Remove a file or folder, unless it is a store that got a file after the review.

    Returns:
        Whether the file or folder was removed.

    Raises:
        StoreError: The system refuses the removal.
    """
    path = finding.path
    if not path.is_dir():
        with explain_write_errors(path):
            path.unlink(missing_ok=True)
        return True
    if _newest(path) > finding.newest:
        return False
    remove_store(path)
    return True


def _review_store(
    store: FeatureStore,
    used: Collection[str],
    existing: Sequence[DatasetRecord],
    damaged_records: Sequence[Path],
    hours: float,
) -> list[Finding]:
    """Return the finding of a store and, if the store is kept, the findings of its damaged shards."""
    newest = _newest(store.path)
    age = max(time.time() - newest, 0) / 3600
    reason = _reason_to_keep(store, used, existing)
    if reason is None and damaged_records:
        reason = f"the damaged record {damaged_records[0].name} may use the store"
    if reason is None and age < hours:
        reason = f"the newest file is {age:.1f} hours old, younger than {hours:g} hours (--older-than)"
    kept = reason is not None
    why = reason or f"no existing data set and no run uses the store; the newest file is {age:.1f} hours old"
    findings = [Finding(store.path, kept, why, _megabytes(store.path), newest)]
    if kept:
        damaged = sorted(store.path.glob(f"*{DAMAGED_SUFFIX}"))
        findings += [
            _finding(path, False, "`tier store verify --repair` renamed this damaged shard")
            for path in damaged
        ]
    return findings


def _reason_to_keep(
    store: FeatureStore,
    used: Collection[str],
    existing: Sequence[DatasetRecord],
) -> str | None:
    if store.path.is_symlink():
        return "the store is a link, which only you can remove"
    if store.signature.digest in used:
        return "a run uses the store"
    for record in existing:
        if store.holds(record.keys_in_store(store.signature.stream)).any():
            return f"the data set {record.about.data} uses the store"
    return None


def _finding(
    path: Path,
    kept: bool,
    why: str,
) -> Finding:
    newest = _newest(path)  # before the size, so that `remove` notices a file that is written in between
    return Finding(path, kept, why, _megabytes(path), newest)


def _newest(path: Path) -> float:
    return max((file.st_mtime for file in _file_stats(path)), default=0.0)


def _megabytes(path: Path) -> float:
    return sum(file.st_size for file in _file_stats(path)) / 1e6


def _file_stats(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of each file under `path`, or of `path` itself, except of links to nowhere.

    Files that vanish meanwhile are skipped.
    """
    for file in _files(path):
        with suppress(OSError):
            yield os.stat(file)


def _files(path: Path) -> Iterator[str | Path]:
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.join(folder, name)
