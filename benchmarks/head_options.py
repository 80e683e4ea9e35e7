"""Options of heads beside their start, on validation prompts: which defaults should change.

    tier extract AGIQA-3K --features DIR --feature pooled
    tier extract AGIQA-3K --features DIR --feature multilevel
    python benchmarks/head_options.py AGIQA-3K --features DIR [--heads ridge svr] [--seeds 10]

For seeds 100 to 109 the prompts are split into training, validation and test parts; a head is fitted on the
training part and its SRCC is taken on the validation part. Heads that stop early, and ensembles, hold out
prompts of the training part. Test parts are never used.

A gain is the difference in SRCC, averaged over the targets, with its paired standard error over the seeds. A
value wins if its gain exceeds the standard error on both kinds of features. From the start (the first value
of each option in `CANDIDATES`), every change of one option is measured, and the winning change with the
largest sum of gains is adopted, again and again, until none wins.

The last line is one JSON object: for each head the adopted options, and the mean SRCC of all that was
measured, by kind of features and target.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.cache.stored_keys import StoredKeys
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.stores.find import find_stores
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import Fused, fuse
from tier4k.heads.data.splits import VALIDATION_SHARE, Split, cut, make_splits
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.kernel_streams import KERNELS
from tier4k.heads.regressors.options import cli_name
from tier4k.heads.regressors.registry import fit_heads, make_head
from tier4k.heads.regressors.tasks import FitTask

FIRST_SEED = 100
FEATURES = ("pooled", "multilevel")


def grid(least_exponent: int) -> tuple[float, ...]:
    """Return penalties up to 100, four a decade."""
    return tuple(np.logspace(least_exponent, 2, 4 * (2 - least_exponent) + 1).tolist())


WIDE = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)
TRANSFORMS = {"image_transform": ("none", "sqrt"), "target_transform": ("none", "rank-gauss")}
CANDIDATES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ridge": {**TRANSFORMS, "leave_out": ("row", "group")},
    "kernel-ridge": {
        **TRANSFORMS,
        "leave_out": ("row", "group"),
        "length_scales": (WIDE[2:], WIDE, (0.7,), (0.5,)),
        "penalties": (grid(-4), grid(-6), grid(-2)),
        "kernels": KERNELS,
    },
    "svr": {**TRANSFORMS, "length_scale": (1.0, 0.5, 0.7, 1.4)},
    "mlp": TRANSFORMS,
    "gated": TRANSFORMS,
    "bilinear": TRANSFORMS,
    "ensemble": TRANSFORMS,
}
HOLD_OUT = ("mlp", "gated", "bilinear", "ensemble")  # these need validation rows of their own

Options = tuple[Any, ...]
"""One value of each option, in the order of `CANDIDATES`."""

Choices = dict[str, list[float]]
"""Values that heads chose, by name."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one head so far.

    Attributes:
        head: Name of the head.
        sets: Features and scores by kind of features.
        seeds: Number of splits.
        srcc: By kind of features and options, SRCC (S, T) of S seeds and T targets.
        chosen: By kind of features and options, penalties and length-scales that the heads chose.
    """

    head: str
    sets: Mapping[str, FeatureSet]
    seeds: int
    srcc: dict[str, dict[Options, np.ndarray]] = field(
        default_factory=lambda: {name: {} for name in FEATURES}
    )
    chosen: dict[str, dict[Options, Choices]] = field(default_factory=lambda: {name: {} for name in FEATURES})

    def measure(self, wanted: Sequence[Options]) -> None:
        """Fit the heads with these options on both kinds of features; skip what was measured before."""
        missing = [options for options in wanted if options not in self.srcc[FEATURES[0]]]
        for name, rows in self.sets.items():
            splits = make_splits(rows, "prompt", self.seeds, FIRST_SEED)
            srcc, chosen = fit_and_score(self.head, missing, rows, fuse(rows, "nr"), splits)
            self.srcc[name] |= srcc
            self.chosen[name] |= chosen

    def gain(
        self,
        features: str,
        options: Options,
        start: Options,
    ) -> tuple[float, float]:
        """Return the mean gain over a start, and its paired standard error over the seeds."""
        gains = (self.srcc[features][options] - self.srcc[features][start]).mean(axis=1)
        return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))


def first(head: str) -> Options:
    """Return the options that a head starts from."""
    return tuple(values[0] for values in CANDIDATES[head].values())


def named(head: str, options: Options) -> dict[str, Any]:
    """Return the values of options by name."""
    return dict(zip(CANDIDATES[head], options, strict=True))


def fit_and_score(
    head: str,
    wanted: Sequence[Options],
    rows: FeatureSet,
    fused: Fused,
    splits: list[Split],
) -> tuple[dict[Options, np.ndarray], dict[Options, Choices]]:
    """Fit heads on every split and target; return SRCC and choices as in `Measured`."""
    jobs = list(product(wanted, splits, rows.target_names))
    fitted = [make_head(head, named(head, options), split.seed) for options, split, _ in jobs]
    tasks = [task(head, rows, split, target) for _, split, target in jobs]
    fit_heads(head, fitted, fused.X, fused.streams, tasks, lambda _: None)
    values: dict[Options, list[float]] = {}
    chosen: dict[Options, Choices] = {}
    for (options, split, target), one in zip(jobs, fitted, strict=True):
        predicted = one.predict(fused.X[split.validation])
        truth = rows.scores(target)[split.validation]
        values.setdefault(options, []).append(spearmanr(truth, predicted).statistic)
        for name, value in choices(one):
            chosen.setdefault(options, {}).setdefault(name, []).append(value)
    shape = len(splits), len(rows.target_names)
    return {options: np.reshape(found, shape) for options, found in values.items()}, chosen


def task(head: str, rows: FeatureSet, split: Split, target: str) -> FitTask:
    """Return the task of a head that never sees validation and test part."""
    train, held_out = split.train, None
    if head in HOLD_OUT:
        train, held_out = cut(split.train, rows, "prompt", VALIDATION_SHARE, split.seed)
    return FitTask(rows.scores(target), train, held_out, group=rows.group)


def choices(head: Head) -> Iterator[tuple[str, float]]:
    """Yield the penalty and the length-scale that a head chose."""
    for name in ("penalty_", "length_scale_"):
        if hasattr(head, name):
            yield name.rstrip("_"), getattr(head, name)


def changes(head: str, start: Options) -> list[Options]:
    """Return the options that differ from a start in one value."""
    changed = []
    for place, values in enumerate(CANDIDATES[head].values()):
        for value in values:
            if value != start[place]:
                changed.append((*start[:place], value, *start[place + 1 :]))
    return changed


def text(head: str, options: Options, start: Options) -> str:
    """Return the options that differ from a start, with long grids as "least to most"."""
    before = named(head, start)
    changed = []
    for name, value in named(head, options).items():
        if value != before[name]:
            is_grid = isinstance(value, tuple) and len(value) > 1
            shown = f"{value[0]:g} to {value[-1]:g}" if is_grid else str(value).strip("(,)")
            changed.append(f"{cli_name(name)}={shown}")
    return ", ".join(changed) or "start"


def print_step(measured: Measured, start: Options) -> Options | None:
    """Measure and print the gains of every change of a start; return the change to adopt."""
    head = measured.head
    changed = changes(head, start)
    measured.measure([start, *changed])
    best, best_sum = None, 0.0
    for options in changed:
        gains = [measured.gain(name, options, start) for name in FEATURES]
        wins = all(gain > error for gain, error in gains)
        total = sum(gain for gain, _ in gains)
        cells = " | ".join(f"{gain:+.4f} ± {error:.4f}" for gain, error in gains)
        before = text(head, start, first(head))
        print(
            f"| `{head}` | {before} | `{text(head, options, start)}` | {cells} | {'yes' if wins else 'no'} |"
        )
        if wins and total > best_sum:
            best, best_sum = options, total
    return best


def print_head(measured: Measured) -> Options:
    """Print the steps from the start to the adopted options, and the choices; return the options."""
    start = adopted = first(measured.head)
    while (better := print_step(measured, adopted)) is not None:
        adopted = better
    for name in FEATURES:
        for options in dict.fromkeys([start, adopted]):
            for choice, found in measured.chosen[name].get(options, {}).items():
                counts = {f"{value:.3g}": found.count(value) for value in sorted(set(found))}
                print(f"  {measured.head}, {name}, {text(measured.head, options, start)}: {choice} {counts}")
    return adopted


def summary(measured: Measured, adopted: Options) -> dict[str, Any]:
    """Return the adopted options and all values for JSON."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in measured.sets.items():
        values[name] = {}
        for options, found in measured.srcc[name].items():
            means = np.round(found.mean(axis=0), 4).tolist()
            key = text(measured.head, options, first(measured.head))
            values[name][key] = dict(zip(rows.target_names, means, strict=True))
    return {"adopted": named(measured.head, adopted), "srcc": values}


def load(data: Path, stores: Path) -> Mapping[str, FeatureSet]:
    """Return the features and scores of a data set by kind of features."""
    sets = {}
    for name in FEATURES:
        images, texts = find_stores(stores, [ImageChoice(feature=name)], ["minilm"])
        manifest = check(data, known=StoredKeys(images)).manifest
        sets[name] = load_features(manifest, FeatureStores.of(images, texts))
    return sets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the data set")
    parser.add_argument("--features", type=Path, required=True, help="folder of stores")
    parser.add_argument("--heads", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, default=10, help="number of splits, the first of seed 100")
    arguments = parser.parse_args()
    results = {}
    with process_policy():
        sets = load(arguments.data, arguments.features)
        print(
            "| head | before | change | gain, pooled | gain, multilevel | wins |\n|---|---|---|---|---|---|"
        )
        for head in arguments.heads:
            measured = Measured(head, sets, arguments.seeds)
            results[head] = summary(measured, print_head(measured))
            sys.stdout.flush()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
