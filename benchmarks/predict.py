"""`tier predict` beside `tier extract` on the same images, the commands themselves, in one process.

    python benchmarks/predict.py AGIQA-3K
    python benchmarks/predict.py AGIQA-3K -- --preset best

Every round extracts into a new folder of stores and then predicts into another, so both encode every
image and every prompt. A time is that of the whole command after the imports: check, networks, encoding,
writing, and for `predict` the heads and their table. The last line is one JSON object: images per second
of every round, and the median over the rounds of predict's over extract's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from typer.testing import CliRunner

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k import cli
from tier4k.cache.listing import stores
from tier4k.extract.pipeline.process_policy import process_policy


def seconds(*arguments: str) -> float:
    """Run one command of the command line and return its seconds."""
    start = time.perf_counter()
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exit_code:
        raise SystemExit(result.output)
    return time.perf_counter() - start


def count_images(features: Path) -> int:
    """Return the number of distinct images in a folder of stores."""
    return max(len(store.keys) for store in stores(features) if store.signature.stream == "image")


def fit(data: str, folder: Path, options: list[str]) -> Path:
    """Extract and fit a ridge head; return the folder of its run. This warms up, too."""
    features = str(folder / "known")
    runs = folder / "runs"
    seconds("extract", data, "-F", features, *options)
    seconds("fit-head", data, "-F", features, "--head", "ridge", "--out", str(runs), *options)
    (run,) = runs.iterdir()
    return run


def measure(data: str, folder: Path, rounds: int, options: list[str]) -> dict[str, list[float]]:
    """Return the images per second of both commands in every round."""
    run = fit(data, folder, options)
    commands = {
        "extract": ["extract", data, *options],
        "predict": ["predict", str(run), data, "-o", str(folder / "scores.csv")],
    }
    rates: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            features = folder / f"{name}-{number}"
            spent = seconds(*command, "-F", str(features))
            images = count_images(features)
            rate = images / spent
            rates[name].append(rate)
            print(f"{name}: {images:,} images in {spent:.1f} s, {rate:.1f} images/s", flush=True)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="data set with scores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "options",
        nargs="*",
        help="options of encoders for tier extract and tier fit-head, after --",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rates = measure(arguments.data, Path(name), arguments.rounds, arguments.options)
    pairs = zip(rates["predict"], rates["extract"], strict=True)
    ratio = statistics.median(predict / extract for predict, extract in pairs)
    values = {f"{name}_images_per_s": of_rounds for name, of_rounds in rates.items()}
    print(json.dumps(values | {"ratio": ratio}))


if __name__ == "__main__":
    with process_policy():
        main()
