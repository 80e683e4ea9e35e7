"""Measure `tier data check` on a table of many rows, here and in another checkout.

    git worktree add ../before 8017324
    python benchmarks/data_check.py --against ../before

The table and its images are drawn in a temporary folder. Every row has its own image file with its own
content, so that each is hashed and decoded. Both checkouts check the same table in turns, each in a process
of its own with the Python that runs this program. The last line is one JSON object: the CPU seconds of each
in its fastest of `--repeats` runs, and their ratio (here / there).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

HERE = Path(__file__).resolve().parents[1]

DRAWN = 200  # distinct drawings; further images differ from them by trailing bytes, which are part of the key


def write_table(
    folder: Path,
    rows: int,
    side: int,
    suffix: str,
) -> Path:
    """Write a table of drawn images with prompts and scores; return its path."""
    random = np.random.default_rng(0)
    drawings = [_drawing(random, side, folder / "drawing.jpg") for _ in range(DRAWN)]
    images = folder / "images"
    images.mkdir()
    names = []
    for row in range(rows):
        name = f"model{row % 6}_{row:06d}.jpg"
        (images / name).write_bytes(drawings[row % DRAWN] + str(row).encode())
        names.append(f"images/{name}")
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [
                f"a picture of thing {row // 4}, in the style of number {row % 97}" for row in range(rows)
            ],
            "mos_quality": random.uniform(0, 5, rows).round(4),
            "mos_align": random.uniform(0, 5, rows).round(4),
        }
    )
    path = folder / f"table{suffix}"
    write = {".csv": frame.to_csv, ".xlsx": frame.to_excel, ".parquet": frame.to_parquet}[suffix]
    write(path, index=False)
    return path


def _drawing(
    random: np.random.Generator,
    side: int,
    path: Path,
) -> bytes:
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return path.read_bytes()


def check_seconds(checkout: Path, table: Path) -> float:
    """Return the CPU seconds of `tier data check` of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, str(checkout / "cli.py"), "data", "check", str(table)],
        cwd=table.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Parse the options, measure, and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=96, help="pixels of an image's side")
    parser.add_argument("--suffix", choices=(".csv", ".xlsx", ".parquet"), default=".csv")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"here": [], "there": []}
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder), arguments.rows, arguments.side, arguments.suffix)
        for _ in range(arguments.repeats):
            seconds["here"].append(check_seconds(HERE, table))
            seconds["there"].append(check_seconds(arguments.against.resolve(), table))
            print(f"here {seconds['here'][-1]:.1f} s, there {seconds['there'][-1]:.1f} s", flush=True)
    best = {name: round(min(values), 2) for name, values in seconds.items()}
    result = {"rows": arguments.rows, "suffix": arguments.suffix, **best}
    print(json.dumps(result | {"ratio": round(best["here"] / best["there"], 3)}))


if __name__ == "__main__":
    main()
