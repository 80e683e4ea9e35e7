"""The feature store at scale, on rows made by formula, before and after compaction.

    python benchmarks/store.py [--rows 1000000] [--keep DIR]

The last line is one JSON object; fields that end in _compacted are those of the same store after compaction.

open_seconds
    a new process opens the store and finds which keys are missing: every second of as many as there are rows
peak_memory_mib
    increase of the process's peak memory by this and by the keys
sequential_ratio
    all rows with their keys, checked, in blocks: rows per second over those of numpy.fromfile at once
sequential_ratio_blocks
    the same over numpy.fromfile in blocks of 4 MiB, which saves numpy the memory for all rows
random_ratio
    100,000 rows at random: seconds of FeatureStore.read, which finds them by key and checks them, over
    seconds of indexing a numpy.memmap of one file by row number

Repetitions of ours and of numpy's alternate, all from the page cache; medians.
"""

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from tier4k.cache.compact import compact
from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.writer import SHARD_ROWS
from tier4k.extract.pipeline.process_policy import process_policy

WIDTH = 1024
RANDOM_ROWS = 100_000
REPETITIONS = 7
SIGNATURE = Signature("image", "formula", "formula", "0" * 64, "none", "pooled", dtype="float16")


def formula_keys(rows: np.ndarray) -> np.ndarray:
    """Return the keys (N, 32) of row numbers (N,)."""
    digests = [hashlib.sha256(b"%d" % row).digest() for row in rows.tolist()]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, KEY_BYTES)


def formula_features(rows: np.ndarray) -> np.ndarray:
    """Return the features (N, 1024) float16 of row numbers (N,): whole numbers below 2,048."""
    return ((rows[:, None] * 7919 + np.arange(WIDTH) * 31) % 2039).astype(np.float16)


def write(root: Path, flat: Path, rows: int) -> FeatureStore:
    """Write `rows` rows into a store, and their features alone into one flat file; return the store."""
    store = FeatureStore.create(root, SIGNATURE, {})
    with store.writer() as writer, flat.open("wb") as file:
        for start in range(0, rows, SHARD_ROWS):
            numbers = np.arange(start, min(start + SHARD_ROWS, rows))
            features = formula_features(numbers)
            writer.add(formula_keys(numbers), features)
            features.tofile(file)
    return FeatureStore.open(store.path)


def opening(path: Path, rows: int) -> tuple[float, float]:
    """Return seconds and MiB of opening the store and finding the missing keys, in a new process."""
    asked = path.parent / "asked.npy"
    np.save(asked, formula_keys(np.random.default_rng(0).permutation(np.arange(rows) * 2)))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_opening, (path, asked, rows))


def _opening(path: Path, asked_file: Path, rows: int) -> tuple[float, float]:
    before = peak_kib()
    asked = np.load(asked_file)
    start = time.perf_counter()
    missing = int((~FeatureStore.open(path).holds(asked)).sum())
    seconds = time.perf_counter() - start
    assert missing == rows // 2, missing
    return seconds, (peak_kib() - before) / 1024


def peak_kib() -> int:
    """Return the peak memory of this process; getrusage would return its parent's where that is greater."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def alternate(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of both, which are repeated in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repetition in range(REPETITIONS + 1):
        for work, taken in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            work()
            if repetition:  # the first only warms up
                taken.append(time.perf_counter() - start)
    return median(seconds[0]), median(seconds[1])


def exhaust(blocks: Iterator[object]) -> None:
    """Read all blocks."""
    for _ in blocks:
        pass


def read_blocks(flat: Path) -> None:
    """Read a file of features with numpy in blocks of 4 MiB."""
    with flat.open("rb") as file:
        while len(np.fromfile(file, np.float16, 2**21)):
            pass


def measure(path: Path, flat: Path, rows: int) -> dict[str, float]:
    """Return the metrics of one store."""
    openings = [opening(path, rows) for _ in range(3)]
    store = FeatureStore.open(path)
    picked = np.random.default_rng(1).choice(rows, min(RANDOM_ROWS, rows), replace=False)
    keys = formula_keys(picked)
    table = np.memmap(flat, np.float16, "r", shape=(rows, WIDTH))
    assert np.array_equal(store.read(keys), table[picked])
    del table
    ours, theirs = alternate(lambda: exhaust(store.blocks()), lambda: np.fromfile(flat, np.float16))
    print(f"  all rows in turn: {ours:.3f} s, numpy.fromfile {theirs:.3f} s")
    again, parts = alternate(lambda: exhaust(store.blocks()), lambda: read_blocks(flat))
    print(f"  all rows in turn: {again:.3f} s, numpy.fromfile in blocks {parts:.3f} s")
    mine, mapped = alternate(
        lambda: store.read(keys), lambda: np.memmap(flat, np.float16, "r", shape=(rows, WIDTH))[picked]
    )
    print(f"  {len(keys):,} random rows: {mine:.3f} s, numpy.memmap {mapped:.3f} s")
    metrics = {
        "open_seconds": median(seconds for seconds, _ in openings),
        "sequential_ratio": theirs / ours,
        "sequential_ratio_blocks": parts / again,
        "random_ratio": mine / mapped,
        "peak_memory_mib": median(mib for _, mib in openings),
    }
    print("  " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def run(folder: Path, rows: int) -> dict[str, float]:
    """Return all metrics, before and after compaction."""
    start = time.perf_counter()
    store = write(folder / "features", folder / "flat.bin", rows)
    print(
        f"wrote {rows:,} rows of {WIDTH} float16 in {len(store.files())} shards: "
        f"{time.perf_counter() - start:.1f} s"
    )
    uncompacted = measure(store.path, folder / "flat.bin", rows)
    start = time.perf_counter()
    done = compact(store)
    seconds = time.perf_counter() - start
    print(f"compacted {done.shards} shards into one: {seconds:.1f} s")
    compacted = measure(store.path, folder / "flat.bin", rows)
    metrics = {
        "rows": rows,
        **uncompacted,
        "compact_seconds": seconds,
        **{f"{name}_compacted": value for name, value in compacted.items()},
    }
    return {name: round(value, 3) for name, value in metrics.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--keep", type=Path, help="make the store in this folder, which must not exist, and leave it there"
    )
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        metrics = run(arguments.keep, arguments.rows)
    else:
        with tempfile.TemporaryDirectory() as folder:
            metrics = run(Path(folder), arguments.rows)
    print(json.dumps(metrics))


if __name__ == "__main__":
    with process_policy():
        main()
