"""`tier predict` beside `tier extract` on the same images, the commands themselves, in one process.

    python benchmarks/predict.py AGIQA-3K
    python benchmarks/predict.py --images 300 --known features AGIQA-3K -- --preset clip

The head is that of `--preset` among the options after `--`, else `ridge`, fitted to the first split of the
data set. Every round extracts the first images of the data set (all, without `--images`) into a new folder
of stores and then predicts them into another, so both encode every image and every prompt. A time is that of
the whole command after the imports: check, networks, encoding, writing, and for `predict` the heads and their
table. CPU seconds are those of all threads (user and system), and depend less on what else the machine does.
The last line is one JSON object: images per second and CPU seconds of every round, the median over the rounds
of predict's images per second over extract's, and of its CPU seconds over extract's.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k import cli
from tier4k.cache.listing import stores
from tier4k.extract.datasets.check import check
from tier4k.extract.pipeline.process_policy import process_policy


@dataclass(frozen=True)
class Spent:
    """Time of one command, in seconds.

    Attributes:
        wall: By the clock.
        cpu: User and system time of all threads.
    """

    wall: float
    cpu: float


def spend(*arguments: str) -> Spent:
    """Run one command of the command line and return its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exit_code:
        raise SystemExit(result.output)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def count_images(features: Path) -> int:
    """Return the number of distinct images in a folder of stores."""
    return max(len(store.keys) for store in stores(features) if store.signature.stream == "image")


def fit(
    data: str,
    folder: Path,
    known: Path,
    options: list[str],
) -> Path:
    """Extract what is not stored in `known`, and fit a head to one split; return the folder of its run."""
    runs = folder / "runs"
    head = [] if "--preset" in options else ["--head", "ridge"]
    spend("extract", data, "-F", str(known), *options)
    spend("fit-head", data, "-F", str(known), "--repeats", "1", "--out", str(runs), *head, *options)
    (run,) = runs.iterdir()
    return run


def write_table(
    data: str,
    count: int,
    path: Path,
) -> None:
    """Write a table with image and prompt of the first rows of a data set."""
    rows = check(Path(data).resolve()).manifest.table.iloc[:count]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        writer.writerows(zip(rows["image"], rows["prompt"], strict=True))


def measure(
    new: str,
    run: Path,
    folder: Path,
    rounds: int,
    options: list[str],
) -> dict[str, list[float]]:
    """Return images per second and CPU seconds of both commands on the new images, in every round."""
    commands = {
        "extract": ["extract", new, *options],
        "predict": ["predict", str(run), new, "-o", str(folder / "scores.csv")],
    }
    values: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, command in commands.items():
            features = folder / f"{name}-{number}"
            spent = spend(*command, "-F", str(features))
            images = count_images(features)
            values.setdefault(f"{name}_images_per_s", []).append(images / spent.wall)
            values.setdefault(f"{name}_cpu_s", []).append(spent.cpu)
            print(
                f"{name}: {images:,} images in {spent.wall:.1f} s, {images / spent.wall:.1f} images/s, "
                f"{spent.cpu:.1f} CPU seconds",
                flush=True,
            )
    return values


def median_ratio(values: dict[str, list[float]], unit: str) -> float:
    """Return the median over the rounds of predict's value over extract's."""
    pairs = zip(values[f"predict_{unit}"], values[f"extract_{unit}"], strict=True)
    return statistics.median(predict / extract for predict, extract in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="data set with scores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="number of rows that are new images; all by default")
    parser.add_argument("--known", type=Path, help="stores of features that the head is fitted on")
    parser.add_argument(
        "options",
        nargs="*",
        help="options of encoders for tier extract and tier fit-head, after --",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = fit(arguments.data, folder, arguments.known or folder / "known", arguments.options)
        new = arguments.data
        if arguments.images:
            new = str(folder / "new.csv")
            write_table(arguments.data, arguments.images, Path(new))
        values = measure(new, run, folder, arguments.rounds, arguments.options)
    ratios = {"ratio": median_ratio(values, "images_per_s"), "cpu_ratio": median_ratio(values, "cpu_s")}
    print(json.dumps(values | ratios))


if __name__ == "__main__":
    with process_policy():
        main()
