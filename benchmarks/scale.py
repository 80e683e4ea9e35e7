"""Planning an extraction at scale: rows of distinct paths, from 10^5 on.

    python benchmarks/scale.py [--rows 10000000] [--folder DIR]

Makes a Parquet table whose rows name distinct paths (hard links to drawn JPEG files, 1,000 in a folder),
measures each part in processes of its own, and removes everything. All files are in the page cache. One line
is printed for each number of rows; the last line is one JSON object with the values of the largest number.
10^7 rows take about 1 GB of disk and half an hour, most of which is spent on making and removing the links.

hashing_s
    two processes that only open each path, read it and take its SHA-256
cold_s
    `tier extract TABLE --plan-only` with an empty features folder
warm_s
    the same again, with the cache of hashes of the first command
beyond_s
    cold_s - hashing_s
peak_gib
    the largest memory of a process of the two commands
lookup_s
    a process looks up random keys (10^7), every second of which is stored, in the index of a store with as
    many keys as there are rows
exponent
    slope of log cold_s over log rows; null for one number of rows
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore

SIZES = (100_000, 1_000_000)
DRAWN = 200
MOST_LINKS = 50_000  # of one file; ext4 allows 65,000
LINKS_OF_A_FOLDER = 1000
ROWS_AT_ONCE = 100_000
SETTLING_SECONDS = 3.0  # a file that changed just now is not remembered, and a link changes its file
SIGNATURE = Signature("image", "formula", "formula", "0" * 64, "none", "pooled", dtype="float32")


@contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """Make a folder and remove it, also when this process is asked to end."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(1)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    folder = Path(tempfile.mkdtemp(prefix="tier4k-scale-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write_table(
    folder: Path,
    rows: int,
    side: int,
) -> Path:
    """Make links to drawn images, and the table that names them; return its path.

    The table is written in parts: a process inherits the peak memory of the process that starts it.
    """
    files = draw(folder / "drawn", max(DRAWN, -(-rows // MOST_LINKS)), side)
    path = folder / "table.parquet"
    schema = pa.schema([("image", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            numbers = range(start, min(start + ROWS_AT_ONCE, rows))
            images = [link(folder, files[row % len(files)], row) for row in numbers]
            prompts = [f"a picture of thing {row // 4} in the style of number {row % 97}" for row in numbers]
            writer.write_table(pa.table({"image": images, "prompt": prompts}, schema))
    return path


def draw(
    folder: Path,
    count: int,
    side: int,
) -> list[Path]:
    """Write JPEG files with distinct drawings."""
    folder.mkdir()
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        files.append(path)
    return files


def link(
    folder: Path,
    file: Path,
    row: int,
) -> str:
    """Make the link of a row, and return its path in the table's folder."""
    part, number = divmod(row, LINKS_OF_A_FOLDER)
    if number == 0:
        os.makedirs(f"{folder}/images/{part:05d}")
    name = f"images/{part:05d}/{row:08d}.jpg"
    os.link(file, f"{folder}/{name}")
    return name


def hashing_seconds(table: Path) -> float:
    """Return the seconds in which two processes hash all paths, without the time to read the table."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(_hash_half, [table] * 2, range(2)))


def _hash_half(table: Path, half: int) -> float:
    folder = f"{table.parent}/"
    seconds = 0.0
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["image"]):
            paths = [folder + name for name in batch.column(0).to_pylist()[half::2]]
            start = time.perf_counter()
            for path in paths:
                with open(path, "rb") as image:
                    hashlib.sha256(image.read()).digest()
            seconds += time.perf_counter() - start
    return seconds


def plan_seconds(table: Path, features: Path) -> tuple[float, float]:
    """Return the seconds and the GiB of planning an extraction."""
    tier = [sys.executable, "-m", "tier4k.cli"]
    arguments = [*tier, "extract", str(table), "--plan-only", "--features", str(features)]
    start = time.perf_counter()
    process = subprocess.Popen(arguments, cwd=table.parent)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the command failed: {' '.join(arguments)}")
    return seconds, usage.ru_maxrss / 2**20


def lookup_seconds(
    folder: Path,
    rows: int,
    lookups: int,
) -> float:
    """Return the seconds of looking up keys in the index of a store of so many rows, in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(_write_store, folder, rows).result()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_look_up, folder, rows, lookups).result()


def _write_store(folder: Path, rows: int) -> None:
    with FeatureStore.create(folder, SIGNATURE, {}).writer(ROWS_AT_ONCE) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            keys = _keys(start // ROWS_AT_ONCE)[: rows - start]
            writer.add(keys, np.ones((len(keys), 1), np.float32))


def _look_up(
    folder: Path,
    rows: int,
    lookups: int,
) -> float:
    store = FeatureStore.open(folder / SIGNATURE.folder_name)
    stored_parts = -(-rows // ROWS_AT_ONCE)
    random = np.random.default_rng(0)
    seconds, found = 0.0, 0
    for start in range(0, lookups, ROWS_AT_ONCE):
        keys = _keys(stored_parts + start // ROWS_AT_ONCE)  # not stored
        stored = _keys(int(random.integers(stored_parts)))[:rows][: len(keys) // 2]
        keys[: 2 * len(stored) : 2] = stored
        begin = time.perf_counter()
        found += int(store.holds(keys[: lookups - start]).sum())
        seconds += time.perf_counter() - begin
    print(f"  {found:,} of {lookups:,} keys found", flush=True)
    return seconds


def _keys(part: int) -> np.ndarray:
    """Return random keys, others for each part."""
    return np.random.default_rng(part).integers(0, 256, (ROWS_AT_ONCE, KEY_BYTES), np.uint8)


def measure(
    parent: Path | None,
    rows: int,
    side: int,
    lookups: int,
) -> dict[str, float]:
    """Measure one number of rows."""
    with temporary_folder(parent) as folder:
        table = write_table(folder, rows, side)
        time.sleep(SETTLING_SECONDS)
        hashing = hashing_seconds(table)
        cold, cold_peak = plan_seconds(table, folder / "features")
        warm, warm_peak = plan_seconds(table, folder / "features")
        values = {
            "rows": rows,
            "cold_s": round(cold, 2),
            "hashing_s": round(hashing, 2),
            "beyond_s": round(cold - hashing, 2),
            "warm_s": round(warm, 2),
            "peak_gib": round(max(cold_peak, warm_peak), 3),
            "lookup_s": round(lookup_seconds(folder / "store", rows, lookups), 2),
        }
    print(values, flush=True)
    return values


def exponent(measured: list[dict[str, float]]) -> float | None:
    """Return the slope of log seconds over log rows."""
    if len(measured) < 2:
        return None
    rows = np.log([values["rows"] for values in measured])
    seconds = np.log([values["cold_s"] for values in measured])
    return round(float(np.polyfit(rows, seconds, 1)[0]), 3)


def main() -> None:
    """Parse the options, measure, and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, help="one number of rows; without it 100,000 and 1,000,000")
    parser.add_argument("--side", type=int, default=64, help="pixels of an image's side")
    parser.add_argument("--lookups", type=int, default=10_000_000, help="keys that are looked up")
    parser.add_argument("--folder", type=Path, help="where links are made; otherwise for temporary files")
    arguments = parser.parse_args()
    measured = []
    for rows in [arguments.rows] if arguments.rows else SIZES:
        measured.append(measure(arguments.folder, rows, arguments.side, arguments.lookups))
    print(json.dumps(measured[-1] | {"exponent": exponent(measured)}))


if __name__ == "__main__":
    main()
