"""The stores of a folder as a table for a terminal."""

import time
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from tier4k.cache.store import FeatureStore, require_stores
from tier4k.extract.pipeline.records import DatasetRecord, records


def store_table(root: Path) -> Table:
    """A table of all stores under `root`; StoreError where there is none."""
    here = require_stores(root)
    known = records(root)
    table = Table("store", "stream", "rows", "shape", "type", "shards", "size", "age", "complete for")
    for store in here:
        table.add_row(*_row(store, known))
    return table


def _row(store: FeatureStore, known: list[DatasetRecord]) -> tuple[str, ...]:
    shape = " x ".join(map(str, store.shards[0].shape)) if store.shards else "-"
    coverage = []
    for record in known:
        held, total = store.coverage(record.keys_of(store.signature.stream))
        if total:
            coverage.append(record.name if held == total else f"{record.name} ({held:,} of {total:,})")
    size, newest = _size_and_newest(store)
    return (
        store.path.name, store.signature.stream, f"{len(store.keys):,}", shape, store.signature.dtype, f"{len(store.shards):,}",
        f"{size / 1e6:,.1f} MB", _age(time.time() - newest), ", ".join(coverage) or "-",
    )  # fmt: skip


def _size_and_newest(store: FeatureStore) -> tuple[int, float]:
    """Bytes of the shards, and when the newest was written."""
    files = []
    for path in store.files():
        with suppress(FileNotFoundError):  # a compaction may take one away in the meantime
            files.append(path.stat())
    return sum(file.st_size for file in files), max(
        (file.st_mtime for file in files), default=store.path.stat().st_mtime
    )


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
