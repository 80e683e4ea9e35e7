"""Peak memory of `tier extract` on tables of 1,000 and of 10,000 rows of distinct images made by formula.

    python benchmarks/memory.py

The last line is one JSON object with the peaks in MiB and their ratio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def write_data(folder: Path, rows: int, side: int) -> Path:
    """Write a table of distinct images, plane waves of different directions and colours; return its path."""
    folder.mkdir()
    y, x = np.mgrid[0:side, 0:side] / side
    for row in range(rows):
        wave = np.sin(2 * np.pi * ((1 + row % 97 / 10) * x + (1 + row // 97 / 10) * y)) * 0.5 + 0.5
        colour = np.array([row % 256, row // 256 % 256, 128])
        Image.fromarray((wave[..., None] * colour).astype(np.uint8)).save(
            folder / f"{row}.png", compress_level=1
        )
    numbers = pd.Series(range(rows)).astype(str)
    frame = pd.DataFrame({"image": numbers + ".png", "prompt": "wave number " + numbers})
    table = folder / "table.csv"
    frame.assign(mos=np.arange(rows) % 7).to_csv(table, index=False)
    return table


def peak_mib(table: Path, features: Path, options: list[str]) -> float:
    """Return the largest resident memory of the extraction's main process or any of its workers, in MiB."""
    command = [sys.executable, "-m", "tier4k.cli", "extract", str(table), "--features", str(features)]
    process = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the extraction ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs=2, default=[1000, 10000])
    parser.add_argument("--side", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("options", nargs="*", help="further options of tier extract, after --")
    arguments = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in arguments.rows:
            table = write_data(Path(folder) / str(rows), rows, arguments.side)
            peaks.append(peak_mib(table, Path(folder) / f"features{rows}", arguments.options))
            print(f"{rows:,} rows: {peaks[-1]:,.0f} MiB", flush=True)
    print(json.dumps({"rows": arguments.rows, "peak_mib": peaks, "ratio": peaks[1] / peaks[0]}))


if __name__ == "__main__":
    main()
