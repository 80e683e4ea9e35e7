"""Remake the tables of docs/benchmarks.md, from features to Markdown.

    python benchmarks/tables.py AGIQA-3K --features FOLDER --runs FOLDER            # print the tables
    python benchmarks/tables.py AGIQA-3K --features FOLDER --runs FOLDER --write    # put them into the page
    python benchmarks/tables.py AGIQA-3K --only heads holm                          # some of them
    python benchmarks/tables.py AGIQA-3K --slow                                     # end-to-end and speed too

Each table is a function; it fits the heads that it shows with the public functions of the package. Features
that are not stored are extracted, and runs in the folder are read, so a killed program continues where it
stopped. The PKU layout of the data is made in a temporary folder. In the page, a table stands between
`<!-- table: NAME -->` and `<!-- end -->`. Tables of speed depend on the machine: run them on an idle one.
README and other pages include some values: `python benchmarks/included_values.py --write` updates them.

The last line is one JSON object: `tables` (names), `seconds` (of each table), `written`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.benchmarks.agiqa_as_pku import rearrange
from tier4k.benchmarks.remake.lab import (
    CLIP,
    KINDS,
    MULTILEVEL,
    NAMES,
    SHORT,
    Data,
    Lab,
    only_run,
    provenance,
    result,
    tier,
)
from tier4k.benchmarks.remake.markdown import cell, difference, markdown, number, span, with_table
from tier4k.benchmarks.remake.slow import SLOW
from tier4k.extract.datasets.manifest import prompt_groups
from tier4k.extract.datasets.sample import write_sample
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import make_splits
from tier4k.heads.metrics.significance import holm as holm_p
from tier4k.heads.reporting.comparison import Comparison, compare
from tier4k.heads.reporting.run_settings import read_settings
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.blocks import as_blocks

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEADS = ("mlp", "gated", "bilinear", "ridge", "kernel-ridge", "svr", "ensemble")
LINES = (("nr", "I2I"), ("fr", "I2I"), ("nr", "all"), ("pr", "all"))  # method and benchmark
PKU_TARGETS = ("MOS_q", "MOS_a", "MOS_c")
I2I_PROMPTS = 60
STREAM_ENCODERS = {"efficientnet-lite0": "Lite0", "clip": "CLIP"}
BASELINE = "generator_mean"
STREAMS_GRID = Path(__file__).parent / "streams.toml"
# What a fused vector consists of, with a method and the streams that give it. Other methods give the same.
INPUTS = {
    "text": ("nr", "text"),
    "image": ("nr", "image"),
    "image prompt": ("fr", "image-prompt"),
    "mean of image and image prompt": ("pr", "image"),
    "text, image (NR)": ("nr", "all"),
    "text, image prompt": ("fr", "text+image-prompt"),
    "image, image prompt": ("fr", "image+image-prompt"),
    "text, image, image prompt (FR)": ("fr", "all"),
    "text, mean of image and image prompt (PR)": ("pr", "all"),
}
# Pairs of these whose difference is what one more input gives.
ADDED = {
    "text, to the image": ("text, image (NR)", "image"),
    "text, to image and image prompt": ("text, image, image prompt (FR)", "image, image prompt"),
    "image prompt, to the image": ("image, image prompt", "image"),
    "image prompt, to text and image (FR)": ("text, image, image prompt (FR)", "text, image (NR)"),
    "mean in place of the image (PR)": ("text, mean of image and image prompt (PR)", "text, image (NR)"),
}


def features(lab: Lab) -> str:
    """SRCC of ridge and the published head on each kind of features."""
    rows = []
    for kind in KINDS:
        cells: list[str] = []
        ridge = lab.real.fit(kind, estimator="ridge")
        mlp = None if "crops" in kind else lab.real.fit(kind, estimator="mlp")  # five times the rows: slow
        for target in NAMES:
            cells += [cell(result(ridge, target)), cell(result(mlp, target)) if mlp else "not measured"]
        rows.append([kind, *cells])
    baselines = [cell(result(ridge, target, name=BASELINE)) for target in NAMES]
    rows.append(["baseline", baselines[0], "", baselines[1], ""])
    header = [f"{name}, {head}" for name in NAMES.values() for head in ("ridge", "`mlp`")]
    return markdown(["features", *header], rows)


def heads(lab: Lab) -> str:
    """SRCC of every head on two kinds of features."""
    columns = [(target, kind) for target in NAMES for kind in SHORT]
    rows = []
    for head in HEADS:
        runs = {kind: lab.real.fit(kind, estimator=head) for kind in SHORT}
        rows.append([f"`{head}`", *(cell(result(runs[kind], target)) for target, kind in columns)])
    rows.append(["baseline", *(cell(result(runs[kind], target, name=BASELINE)) for target, kind in columns)])
    return markdown(["head", *(f"{NAMES[target]}, {SHORT[kind]}" for target, kind in columns)], rows)


def holm(lab: Lab) -> str:
    """Differences between heads that pass Holm's correction, for each head that is behind."""
    rows = []
    for kind, short in SHORT.items():
        comparisons = compare([lab.real.fit(kind, estimator=head).folder for head in HEADS])
        passed: dict[tuple[str, int], list[tuple[int, Comparison]]] = {}
        for one in comparisons:
            ahead, behind = (one.first, one.second) if one.difference > 0 else (one.second, one.first)
            if one.p_holm < 0.05:
                passed.setdefault((one.target, behind), []).append((ahead, one))
        for (target, behind), found in passed.items():
            names = ", ".join(f"`{HEADS[ahead]}`" for ahead, _ in found)
            gaps, ps = span(abs(one.difference) for _, one in found), span(one.p_holm for _, one in found)
            rows.append([short, NAMES[target], names, f"`{HEADS[behind]}`", gaps, ps])
        if not passed:
            smallest = min(one.p_holm for one in comparisons)
            rows.append([short, "both", "none passes", "", "", f"smallest {number(smallest)}"])
    return markdown(["features", "score", "ahead", "behind", "by", "p (Holm)"], rows)


def methods(lab: Lab) -> str:
    """Methods and benchmarks in the PKU layout."""
    rows = []
    for method, benchmark in LINES:
        for head, option in (("mlp", ""), ("ridge", " --head ridge")):
            run = lab.pku.fit(method=method, benchmark=benchmark, estimator=head)
            rows.append(
                [f"`--method {method} --benchmark {benchmark}{option}`", *both_metrics(run, PKU_TARGETS)]
            )
        if method in ("fr", "pr"):
            rows.append([f"baseline on {benchmark} rows", *both_metrics(run, PKU_TARGETS, BASELINE)])
    header = [f"{metric} {target}" for target in PKU_TARGETS for metric in ("SRCC", "PLCC")]
    return markdown(["options of `tier fit-head Dataset`", *header], rows)


def both_metrics(run: Run, targets: Iterable[str], name: str = "") -> list[str]:
    """Return cells with SRCC and PLCC of each target, without intervals."""
    return [
        cell(result(run, target, metric, name), False) for target in targets for metric in ("srcc", "plcc")
    ]


def ridge_against_mlp(lab: Lab) -> str:
    """Ridge minus the published head in the PKU layout."""
    rows = []
    for method, benchmark in LINES:
        runs = [
            lab.pku.fit(method=method, benchmark=benchmark, estimator=head).folder
            for head in ("ridge", "mlp")
        ]
        rows.append([f"`--method {method} --benchmark {benchmark}`", *map(difference, compare(runs))])
    return markdown(["`ridge` minus `mlp`, SRCC", *PKU_TARGETS], rows)


def streams(lab: Lab) -> str:
    """SRCC of kernel ridge on every subset of the streams."""
    runs = stream_runs(lab, "kernel-ridge")
    rows = []
    for inputs, key in INPUTS.items():
        of_encoders = [runs[encoder, *key] for encoder in STREAM_ENCODERS]
        cells = [cell(result(own[target], target)) for own in of_encoders for target in PKU_TARGETS]
        rows.append([inputs, *cells])
    baselines = [
        cell(result(own[target], target, name=BASELINE)) for own in of_encoders for target in PKU_TARGETS
    ]
    rows.append(["baseline", *baselines])
    return markdown(["inputs", *stream_header()], rows)


def stream_differences(lab: Lab) -> str:
    """What one more input gives, with p after Holm's correction for all comparisons of the table."""
    runs = stream_runs(lab, "kernel-ridge")
    found: list[Comparison] = []
    for more, less in ADDED.values():
        for encoder in STREAM_ENCODERS:
            for target in PKU_TARGETS:
                found += compare([runs[encoder, *INPUTS[one]][target].folder for one in (more, less)])
    corrected = holm_p(np.array([one.p for one in found]))
    cells = [difference(replace(one, p_holm=p)) for one, p in zip(found, corrected, strict=True)]
    width = len(stream_header())
    rows = [[added, *cells[width * row : width * (row + 1)]] for row, added in enumerate(ADDED)]
    return markdown(["added input", *stream_header()], rows)


def stream_header() -> list[str]:
    """Return the titles of the columns of encoders and targets."""
    return [f"{short}, {target}" for short in STREAM_ENCODERS.values() for target in PKU_TARGETS]


@cache
def stream_runs(lab: Lab, head: str) -> dict[tuple[str, str, str], dict[str, Run]]:
    """Return the runs of a head by image encoder (text alone has each), method and streams, and by target."""
    runs: dict[tuple[str, str, str], dict[str, Run]] = {}
    (grid,) = as_blocks(STREAMS_GRID)
    for run in lab.pku.sweep(grid, (MULTILEVEL, CLIP)):
        settings = read_settings(run.folder)
        if settings.head != head:
            continue
        encoders = [settings.image_encoder] if settings.image_encoder else STREAM_ENCODERS
        for encoder in encoders:
            of_targets = runs.setdefault((encoder, settings.method, settings.used_streams), {})
            of_targets.update(dict.fromkeys(run.results.summaries, run))
    return runs


def real_images(lab: Lab) -> str:
    """The published head, ridge, the baseline and a new generator on the real images."""
    mlp, ridge = (lab.real.fit(estimator=head) for head in ("mlp", "ridge"))
    generator = lab.real.fit(estimator="ridge", split="generator")
    count = len(generator.results.test_rows)
    rows = [
        ["`--method nr`", *both_metrics(mlp, NAMES)],
        ["`--method nr --head ridge`", *both_metrics(ridge, NAMES)],
        ["baseline", *both_metrics(ridge, NAMES, BASELINE)],
        [f"`--method nr --head ridge --split generator` ({count} repeats)", *both_metrics(generator, NAMES)],
    ]
    header = [f"{metric} {name}" for name in NAMES.values() for metric in ("SRCC", "PLCC")]
    return markdown(["options of `tier fit-head AGIQA-3K`", *header], rows)


def best_test_epoch(lab: Lab) -> str:
    """SRCC at the best test epoch and at the last epoch."""
    default = lab.pku.fit()
    published = lab.real.fit(recipe="published", repeats=5)
    cases = [("`tier fit-head Dataset`", default, "MOS_q")]
    for target in NAMES:
        cases.append(
            ("`tier fit-head AGIQA-3K --feature pooled --recipe published --repeats 5`", published, target)
        )
    rows = []
    for command, run, target in cases:
        best, last = (number(result(run, target, name=name).mean) for name in ("best_test", "last"))
        rows.append([command, NAMES.get(target, target), best, last])
    return markdown(["command", "target", "best test epoch", "last epoch"], rows)


def leakage(lab: Lab) -> str:
    """Test rows with an exact duplicate in training, mean of 10 repeats."""
    rows = []
    for name, data in (("AGIQA-3K", lab.real), ("the same in the PKU layout", lab.pku)):
        by_image = Rows.of(data.manifest)
        nothing = pd.Series([""] * len(by_image))
        texts = prompt_groups(data.manifest.table["prompt"], nothing, nothing)  # as if no image joined groups
        by_text = replace(by_image, group=texts.to_numpy())
        counts = [
            duplicates(by_image, "prompt"),
            duplicates(by_text, "prompt"),
            duplicates(by_image, "random"),
        ]
        rows.append([f"{name} ({len(by_image)} rows)", *counts])
    return markdown(["rows", "`prompt`", "`prompt`, if images did not join groups", "`random`"], rows)


def duplicates(rows: Rows, rule: str) -> str:
    """Count the test rows whose image is also in training or validation, as means over 10 repeats."""
    seen, tested = [], []
    for split in make_splits(rows, rule, 10, 0):
        known = rows.image_key[np.concatenate([split.train, split.validation])]
        seen.append(np.isin(rows.image_key[split.test], known).sum())
        tested.append(len(split.test))
    return f"{np.mean(seen):.1f} of {np.mean(tested):.1f}"


def prediction_intervals(lab: Lab) -> str:
    """Width and coverage of the 90 % intervals of a prediction."""
    rows = []
    for head in ("ridge", "mlp"):
        intervals = lab.real.fit(estimator=head).results.prediction_intervals
        prompts = np.mean(intervals["mos_quality"].prompts)
        cells = []
        for target in NAMES:
            one = intervals[target]
            cells += [f"{np.mean(one.half_width):.2f}", f"{np.mean(one.coverage):.1%}".replace("%", " %")]
        rows.append([f"`{head}`", f"{prompts:.1f}", *cells])
    header = [text for name in NAMES.values() for text in (f"{name}: half-width", "test coverage")]
    return markdown(["head", "held-out prompts", *header], rows)


def across(lab: Lab) -> str:
    """Heads that are tested on another data set."""
    sample = Data(write_sample(lab.scratch / "sample"), lab.scratch / "features", lab.scratch / "runs")
    drawn, real = ("synthetic demo data", sample), ("real images", lab.real)
    rows = []
    for (name, fitted_on), head, (other, tested_on) in ((drawn, "mlp", real), (real, "ridge", drawn)):
        run = fitted_on.fit(estimator=head, models="all")
        out = lab.scratch / f"evaluated-{head}"
        pairs = (("MOS_q", "mos_quality"), ("MOS_c", "mos_align"))
        columns = pairs if fitted_on is sample else [pair[::-1] for pair in pairs]
        options = [f"--target={target}={column}" for target, column in columns]
        tier("evaluate", run.folder, tested_on.path, "-F", tested_on.features, "--out", out, *options)
        cells = [cell(result(only_run(out), column)) for _, column in columns]
        rows.append([name, f"`{head}`", other, *cells])
    return markdown(["fitted on", "head", "tested on", "SRCC quality", "SRCC alignment"], rows)


def levels(lab: Lab) -> str:
    """Generators, images of one prompt, and the raters' ceiling."""
    shown = ("srcc", "plcc", "system_srcc", "system_krcc", "prompt_srcc", "prompt_pairs")
    rows = []
    for target, score in NAMES.items():
        for kind, short in SHORT.items():
            for head in ("mlp", "ridge"):
                run = lab.real.fit(kind, estimator=head)
                cells = [cell(result(run, target, metric), False) for metric in shown]
                rows.append([score, f"`{head}`, {short}", *cells])
        for title, name in (("baseline", BASELINE), (f"ceiling of {lab.real.raters} raters", "raters")):
            rows.append([score, title, *(cell(result(run, target, metric, name), False) for metric in shown)])
    titles = ["SRCC", "PLCC", "generators: SRCC", "generators: KRCC", "one prompt: SRCC", "one prompt: pairs"]
    return markdown(["score", "predictor", *titles], rows)


TABLES: dict[str, Callable[[Lab], str]] = {
    "provenance": lambda _: provenance(),
    "features": features,
    "heads": heads,
    "holm": holm,
    "methods": methods,
    "ridge against mlp": ridge_against_mlp,
    "streams": streams,
    "stream differences": stream_differences,
    "real images": real_images,
    "levels": levels,
    "best test epoch": best_test_epoch,
    "leakage": leakage,
    "prediction intervals": prediction_intervals,
    "across": across,
}


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the data set, in the AGIQA-3K layout")
    parser.add_argument("--features", type=Path, default=Path("features"), help="folder of stores")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs")
    parser.add_argument("--raters", type=int, default=21, help="number of ratings of every score")
    parser.add_argument("--only", nargs="+", choices=[*TABLES, *SLOW], metavar="NAME", help="tables to make")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--slow", action="store_true", help="make the end-to-end and speed tables too")
    return parser.parse_args()


def make_tables(arguments: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Print or write the tables; return the seconds that each took."""
    rearrange(arguments.data, scratch / "pku", I2I_PROMPTS)
    places = (arguments.features, arguments.runs)
    pku = Data(scratch / "pku" / "PKU-AIGIQA-4K", *places)
    lab = Lab(Data(arguments.data, *places, arguments.raters), pku, scratch)
    names = arguments.only or [*TABLES, *(SLOW if arguments.slow else ())]
    seconds = {}
    for name in names:
        start = time.perf_counter()
        text = f"{SLOW[name](lab)}\n\n{provenance()}" if name in SLOW else TABLES[name](lab)
        seconds[name] = round(time.perf_counter() - start, 1)
        print(f"\n{name} ({seconds[name]} s)\n\n{text}", flush=True)
        if arguments.write:
            PAGE.write_text(with_table(PAGE.read_text(), name, text))
    return seconds


def main() -> None:
    """Make the tables."""
    arguments = parse_arguments()
    with process_policy(), tempfile.TemporaryDirectory() as scratch:
        seconds = make_tables(arguments, Path(scratch))
    print(json.dumps({"tables": list(seconds), "seconds": seconds, "written": arguments.write}))


if __name__ == "__main__":
    main()
