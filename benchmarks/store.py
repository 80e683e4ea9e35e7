"""The feature store at scale, on rows made by formula, before and after compaction.

    python benchmarks/store.py [--rows 500000] [--index-rows 10000000] [--shards 100000] [--keep DIR]

The last line is one JSON object; fields that end in _compacted are those of the same store after compaction.
A size of 0 leaves a part out.

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

A store of many rows of four numbers (--index-rows, --shard-rows), each figure in a new process:

index_build_seconds, index_build_mib
    the first opening, which writes the index file, and the increase of the process's peak memory
index_open_seconds, index_open_mib
    the second opening, with the search for one key
index_lookup_seconds, index_lookup_mib
    as many random keys as there are rows, every second of which is stored; without the memory of the keys

A folder with the names of many shards (--shards):

listing_seconds
    FeatureStore.files()
publish_ms, publish_ms_many
    publishing one small shard, in an empty store and in this one
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


def random_keys(seed: int, rows: int) -> np.ndarray:
    """Return keys (N, 32) that are as good as hashes."""
    return np.frombuffer(np.random.default_rng(seed).bytes(rows * KEY_BYTES), np.uint8).reshape(-1, KEY_BYTES)


def write_small_rows(
    root: Path,
    rows: int,
    shard_rows: int,
) -> FeatureStore:
    """Write a store of random keys, each with four numbers."""
    store = FeatureStore.create(root, SIGNATURE, {})
    with store.writer(shard_rows) as writer:
        for number, start in enumerate(range(0, rows, shard_rows)):
            count = min(shard_rows, rows - start)
            writer.add(random_keys(number, count), np.full((count, 4), number % 2048, np.float16))
    return FeatureStore.open(store.path)


def look_up(path: Path, asked_file: Path) -> tuple[float, float, int]:
    """Return seconds, MiB and number of stored keys among those in a file."""
    asked = np.load(asked_file)
    before = peak_kib()
    start = time.perf_counter()
    stored, _ = FeatureStore.open(path).coverage(asked)
    return time.perf_counter() - start, (peak_kib() - before) / 1024, stored


def measure_index(
    folder: Path,
    rows: int,
    shard_rows: int,
) -> dict[str, float]:
    """Return the metrics of opening and of looking up keys in a store of many rows."""
    start = time.perf_counter()
    store = write_small_rows(folder / "rows", rows, shard_rows)
    print(f"wrote {rows:,} rows in {len(store.files()):,} shards: {time.perf_counter() - start:.1f} s")
    one, many = folder / "one.npy", folder / "many.npy"
    np.save(one, random_keys(0, 1))
    numbers = range(0, rows, shard_rows)
    stored = [random_keys(number, min(shard_rows, rows - first)) for number, first in enumerate(numbers)]
    keys = np.concatenate(stored)
    keys[::2] = random_keys(-1 % 2**32, len(keys[::2]))
    np.random.default_rng(0).shuffle(keys)
    np.save(many, keys)
    metrics: dict[str, float] = {"index_rows": rows, "index_shards": len(store.files())}
    for name, asked, expected in (("build", one, 1), ("open", one, 1), ("lookup", many, rows // 2)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, mib, found = pool.apply(look_up, (store.path, asked))
        assert found == expected, (name, found)
        metrics |= {f"index_{name}_seconds": seconds, f"index_{name}_mib": mib}
    print("  " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def publish_milliseconds(store: FeatureStore) -> float:
    """Return the median time of publishing a shard of ten rows."""
    taken = []
    with store.writer() as writer:
        for number in range(20):
            writer.add(random_keys(number, 10), np.zeros((10, 4), np.float16))
            start = time.perf_counter()
            writer.publish()
            taken.append(time.perf_counter() - start)
    return median(taken) * 1000


def measure_listing(folder: Path, shards: int) -> dict[str, float]:
    """Return the metrics of a folder with many files."""
    few = publish_milliseconds(FeatureStore.create(folder / "few", SIGNATURE, {}))
    store = FeatureStore.create(folder / "listed", SIGNATURE, {})
    for number in range(shards):
        (store.path / f"{number:016x}.h5").touch()
    start = time.perf_counter()
    assert len(store.files()) == shards
    seconds = time.perf_counter() - start
    many = publish_milliseconds(store)
    print(f"listed {shards:,} shards: {seconds:.2f} s; publishing one: {many:.1f} ms, alone {few:.1f} ms")
    return {"shards": shards, "listing_seconds": seconds, "publish_ms": few, "publish_ms_many": many}


def measure_rows(folder: Path, rows: int) -> dict[str, float]:
    """Return the metrics of a store of wide rows, before and after compaction."""
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
    print(f"compacted {done.shards} shards into {len(done.paths)}: {seconds:.1f} s")
    compacted = measure(store.path, folder / "flat.bin", rows)
    return {
        "rows": rows,
        **uncompacted,
        "compact_seconds": seconds,
        **{f"{name}_compacted": value for name, value in compacted.items()},
    }


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return all metrics."""
    metrics: dict[str, float] = {}
    if arguments.shards:
        metrics |= measure_listing(folder, arguments.shards)
    if arguments.index_rows:
        metrics |= measure_index(folder, arguments.index_rows, arguments.shard_rows)
    if arguments.rows:
        metrics |= measure_rows(folder, arguments.rows)
    return {name: round(value, 3) for name, value in metrics.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000, help="wide rows to read")
    parser.add_argument("--index-rows", type=int, default=10_000_000, help="keys of the index")
    parser.add_argument("--shard-rows", type=int, default=16_384, help="rows of a shard of the index")
    parser.add_argument("--shards", type=int, default=100_000, help="names of shards to list")
    parser.add_argument(
        "--keep", type=Path, help="make the store in this folder, which must not exist, and leave it there"
    )
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        metrics = run(arguments.keep, arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            metrics = run(Path(folder), arguments)
    print(json.dumps(metrics))


if __name__ == "__main__":
    with process_policy():
        main()
