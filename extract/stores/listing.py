"""A table of the stores of a folder, for a terminal."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tier4k.cache.index import INDEX_FILE
from tier4k.cache.keys import key_array
from tier4k.cache.listing import require_stores
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.presets import weights_note
from tier4k.extract.inputs.record import TEMPLATE, DatasetRecord
from tier4k.extract.screen.table import Column, Row, Table, count_column, text_column

COLUMNS = (
    text_column("store"),
    text_column("stream", importance=70),
    count_column("rows"),
    text_column("shape", importance=60),
    text_column("type", importance=40),
    count_column("shards", importance=30),
    Column("size", lambda row: f"{row['bytes'] / 1e6:,.1f} MB", 80, is_number=True),
    Column("age", lambda row: _age(row["age_seconds"]), 50, is_number=True),
    text_column("complete_for", "complete for", 90, wraps=True),
)


def store_table(root: Path, dataset_records: Sequence[DatasetRecord]) -> Table:
    """Return a table of all stores under `root`.

    Args:
        root: Folder of stores.
        dataset_records: The records of the data sets whose coverage is shown.

    Raises:
        StoreError: The folder has no store.
    """
    stores = require_stores(root)
    return Table(COLUMNS, tuple(_row(store, dataset_records) for store in stores))


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


def _row(store: FeatureStore, dataset_records: Sequence[DatasetRecord]) -> Row:
    signature = store.signature
    size, newest = _size_and_newest(store)
    return {
        "store": store.path.name,
        "stream": signature.stream,
        "rows": store.rows,
        "shape": _shape(store),
        "type": signature.dtype,
        "shards": len(store.shards),
        "bytes": size,
        "age_seconds": time.time() - newest,
        "complete_for": _coverage(store, dataset_records),
    }


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
        # Small stores have no index, a compaction may remove a shard, and a link may lead nowhere.
        with suppress(OSError):
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
