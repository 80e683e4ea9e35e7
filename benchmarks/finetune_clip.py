"""End to end from CLIP ViT-B/16 beside the frozen features of `--preset clip`, on one split by prompt.

    tier weights get clip
    python benchmarks/finetune_clip.py AGIQA-3K --out DIR [--finetune last:4] [--epochs 2] [--seed 100]

The frozen side is `tier fit-head AGIQA-3K --preset clip --repeats 1`: CLIP and Lite0 with the prompts, a
kernel ridge. The finetuned side is `tier fit-head AGIQA-3K --finetune PART --image-encoder clip --feature
multilevel --repeats 1`: images at 224, the default recipe of finetuning. Both have the same test rows. The
difference is that of `tier compare`; with a single repeat it has the interval of the fitted heads, a
bootstrap over the test prompts. Seeds from 100 are those on which options are chosen; the reported tables
have seed 0.

Stores and runs are in DIR. A repeated call encodes and trains nothing again; after a kill, it continues the
training after its last epoch.

The last line is one JSON object: SRCC and PLCC of both sides, their differences with intervals, and seconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
import tier4k
from tier4k.extract.pipeline.allocator import keep_all_freed_memory
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.results.run import Run

TEXT_ENCODER = "minilm"
METRICS = ("srcc", "plcc")


def frozen(
    manifest: tier4k.Manifest,
    arguments: argparse.Namespace,
) -> Run:
    """Return the run of the preset's head on stored features."""
    preset = PRESETS["clip"]
    stores = tier4k.extract_features(arguments.data, preset.images, TEXT_ENCODER, arguments.out / "features")
    options = tier4k.FitOptions(
        targets=(arguments.target,),
        repeats=1,
        seed=arguments.seed,
        estimator=preset.head,
        head=dict(preset.options),
    )
    return tier4k.fit_head(manifest, stores, options, arguments.out / "runs")


def finetuned(
    manifest: tier4k.Manifest,
    arguments: argparse.Namespace,
) -> Run:
    """Return the run of encoders that were trained with their head."""
    pair = tier4k.EncoderPair.find(PRESETS["clip"].images[0], TEXT_ENCODER, arguments.data)
    training: dict[str, Any] = {"max_epochs": arguments.epochs, "precision": arguments.precision}
    if arguments.learning_rate:
        training["learning_rate"] = arguments.learning_rate
    options = tier4k.FitOptions(
        targets=(arguments.target,),
        repeats=1,
        seed=arguments.seed,
        finetune=arguments.finetune,
        training=training,
        models="none",
    )
    shown = Shown()
    with keep_all_freed_memory():
        return tier4k.finetune(manifest, pair, options, arguments.out / "runs", device="cpu", progress=shown)


class Shown:
    """Prints the progress of a training once a minute."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.last = 0.0

    def __call__(self, work: str, done: int, total: int) -> None:
        """Print the work that is done, if the last line is a minute old."""
        seconds = time.perf_counter() - self.start
        if seconds - self.last > 60 or done == total:
            self.last = seconds
            print(f"{seconds:.0f} s: {work} {done} of {total}", flush=True)


def differences(ours: Run, theirs: Run) -> dict[str, Any]:
    """Return the metrics of the finetuned run, of the frozen one, and their differences."""
    values: dict[str, Any] = {}
    for metric in METRICS:
        (found,) = compare([ours.folder, theirs.folder], metric)
        interval = found.interval if not found.interval_reason else found.interval_fitted_heads
        values[metric] = {
            "finetuned": round(found.means[0], 4),
            "frozen": round(found.means[1], 4),
            "difference": round(found.difference, 4),
            "interval": [round(end, 4) for end in interval],
            "interval_of": "fitted heads" if found.interval_reason else "recipes",
        }
    return values


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data set, such as AGIQA-3K")
    parser.add_argument("--out", type=Path, required=True, help="folder of stores and runs")
    parser.add_argument("--target", default="mos_quality")
    parser.add_argument("--finetune", default="last:4", help="as in tier fit-head")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, help="of the encoders; default: that of the recipe")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--seed", type=int, default=100)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with process_policy():
        manifest = tier4k.load_manifest(arguments.data, arguments.out / "features")
        start = time.perf_counter()
        ours = finetuned(manifest, arguments)
        trained = time.perf_counter()
        theirs = frozen(manifest, arguments)
        fitted = time.perf_counter()
        values = differences(ours, theirs)
    result = {
        "target": arguments.target,
        "finetune": arguments.finetune,
        "epochs": arguments.epochs,
        "precision": arguments.precision,
        "seed": arguments.seed,
        **values,
        "seconds_finetuned": round(trained - start),
        "seconds_frozen": round(fitted - trained),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
