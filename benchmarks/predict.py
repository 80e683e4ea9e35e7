"""`tier predict` on new pictures beside `tier extract` on the same pictures, the commands themselves, alternating in one process.

    python benchmarks/predict.py AGIQA-3K
    python benchmarks/predict.py AGIQA-3K -- --preset best

Every round extracts into a new folder of stores and then predicts into another, so that both encode every picture and every prompt. A
time is that of the whole command after the imports: check, networks, encoding, writing, and of `predict` the heads and their table.
The last line is one JSON object: pictures per second of every round, and the median over the rounds of predict's over extract's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tier4k import cli
from tier4k.cache.store import stores


def seconds(*arguments: str) -> float:
    """Of one command of the command line."""
    start = time.perf_counter()
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exit_code:
        raise SystemExit(result.output)
    return time.perf_counter() - start


def pictures(features: Path) -> int:
    """Distinct pictures that a folder of stores holds."""
    return max(len(store.keys) for store in stores(features) if store.signature.stream == "image")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="data set with scores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "options", nargs="*", help="options of encoders for tier extract and tier fit-head, after --"
    )
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"extract": [], "predict": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = str(folder / "known")
        seconds(
            "extract", arguments.data, "-F", known, *arguments.options
        )  # warms up, and the heads are fitted on it
        seconds(
            "fit-head",
            arguments.data,
            "-F",
            known,
            "--head",
            "ridge",
            "--out",
            str(folder / "runs"),
            *arguments.options,
        )
        (run,) = (folder / "runs").iterdir()
        commands = {
            "extract": ["extract", arguments.data, *arguments.options],
            "predict": ["predict", str(run), arguments.data, "-o", str(folder / "scores.csv")],
        }
        for number in range(arguments.rounds):
            for which, command in commands.items():
                features = folder / f"{which}-{number}"
                spent = seconds(*command, "-F", str(features))
                rates[which].append(pictures(features) / spent)
                print(
                    f"{which}: {pictures(features):,} pictures in {spent:.1f} s, {rates[which][-1]:.1f} pictures/s",
                    flush=True,
                )
    ratios = [ours / theirs for ours, theirs in zip(rates["predict"], rates["extract"], strict=True)]
    print(
        json.dumps(
            {f"{which}_pictures_per_s": values for which, values in rates.items()}
            | {"ratio": statistics.median(ratios)}
        )
    )


if __name__ == "__main__":
    main()
