"""A table of the stores of a folder, for a terminal."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from tier4k.cache.index import INDEX_FILE
from tier4k.cache.keys import key_array
from tier4k.cache.listing import require_stores
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.presets import weights_note
from tier4k.extract.inputs.record import TEMPLATE, DatasetRecord

COLUMNS = ("store", "stream", "rows", "shape", "type", "shards", "size", "age", "complete for")


def store_table(root: Path, dataset_records: Sequence[DatasetRecord]) -> Table:
    """Return a table of all stores under `root`.

    Args:
        root: Folder of stores.
        dataset_records: The records of the data sets whose coverage is shown.

    Raises:
        StoreError: The folder has no store.
    """
    table = Table(*COLUMNS)
    for store in require_stores(root):
        table.add_row(*_row(store, dataset_records))
    return table


def store_notes(root: Path) -> list[str]:
    """Return a line for every store under `root` with features of changed weights, such as rounded ones.

    Raises:
        StoreError: The folder has no store.
    """
    notes = []
    for store in require_stores(root):
        if note := weights_note(store.signature.weights):
            notes.append(f"{store.path.name}: {note}")
    return notes


def _row(store: FeatureStore, dataset_records: Sequence[DatasetRecord]) -> tuple[str, ...]:
    signature = store.signature
    size, newest = _size_and_newest(store)
    return (
        store.path.name,
        signature.stream,
        f"{store.rows:,}",
        _shape(store),
        signature.dtype,
        f"{len(store.shards):,}",
        f"{size / 1e6:,.1f} MB",
        _age(time.time() - newest),
        _coverage(store, dataset_records),
    )


def _shape(store: FeatureStore) -> str:
    if not store.shards:
        return "-"
    return " x ".join(map(str, store.shape))


def _coverage(store: FeatureStore, dataset_records: Sequence[DatasetRecord]) -> str:
    """Return the names of the recorded data sets, with counts of stored inputs where some are missing."""
    names = []
    for record in dataset_records:
        stored, total = store.coverage(record.keys_of(store.signature.stream))
        if stored < total:
            names.append(f"{record.about.name} ({stored:,} of {total:,})")
        elif total:
            names.append(record.about.name)
    if templates := _count_templates(store, dataset_records):
        names.append(f"{templates:,} templates")
    return ", ".join(names) or "-"


def _count_templates(store: FeatureStore, dataset_records: Sequence[DatasetRecord]) -> int:
    """Return the number of texts in a store that are recorded as templates and not as prompts."""
    if store.signature.stream != "text":
        return 0
    templates: set[bytes] = set()
    prompts: set[bytes] = set()
    for record in dataset_records:
        templates.update(map(bytes, record.keys_of(TEMPLATE)))
        prompts.update(map(bytes, record.keys_of("text")))
    return store.coverage(key_array(sorted(templates - prompts)))[0]


def _size_and_newest(store: FeatureStore) -> tuple[int, float]:
    """Return the bytes of all shards and of the index, and the modification time of the newest shard."""
    files = []
    for path in (*store.files(), store.path / INDEX_FILE):
        with suppress(FileNotFoundError):  # small stores have no index; a compaction may remove a shard
            files.append(path.stat())
    size = sum(file.st_size for file in files)
    times = [file.st_mtime for file in files]
    newest = max(times) if times else store.path.stat().st_mtime
    return size, newest


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
