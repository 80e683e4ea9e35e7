"""Remake the tables of docs/benchmarks.md, from features to Markdown.

    python benchmarks/tables.py AGIQA-3K --features FOLDER --runs FOLDER            # print the tables
    python benchmarks/tables.py AGIQA-3K --features FOLDER --runs FOLDER --write    # put them into the page
    python benchmarks/tables.py AGIQA-3K --only heads holm                          # some of them
    python benchmarks/tables.py AGIQA-3K --slow                                     # end-to-end and speed too

Each table is a function; it fits the heads that it shows with the public functions of the package. Features
that are not stored are extracted, and runs in the folder are read, so a killed program continues where it
stopped. The PKU layout of the data is made in a temporary folder. In the page, a table stands between
`<!-- table: NAME -->` and `<!-- end -->`. Tables of speed depend on the machine: run them on an idle one.

The last line is one JSON object: `tables` (names), `seconds` (of each table), `written`.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.benchmarks.agiqa_as_pku import rearrange
from tier4k.cache.listing import stores
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import CheckedDataset, check, raise_for_problems
from tier4k.extract.datasets.manifest import Manifest, prompt_groups
from tier4k.extract.datasets.sample import write_sample
from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import PRESETS, ImageChoice
from tier4k.extract.encoders.weights import search_folders
from tier4k.extract.images.crops import Crops
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.versions import library_version
from tier4k.extract.stores.find import find_stores
from tier4k.heads.commands.console import make_console
from tier4k.heads.commands.encoding import encode
from tier4k.heads.data.features import Rows
from tier4k.heads.data.split_request import parse_split
from tier4k.heads.data.splits import make_splits
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.significance import holm as holm_p
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.publish import Run, read_run
from tier4k.heads.reporting.comparison import Comparison, compare
from tier4k.heads.results.run_format import PROTOCOL_VERSION

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
POOLED = "pooled, 224"
BEST = "multilevel, 512 (`--preset best`)"
KINDS = {
    POOLED: ImageChoice(feature="pooled"),
    "multilevel, 224": ImageChoice(feature="multilevel"),
    "multilevel, 224, `--crops 4`": ImageChoice(feature="multilevel", crops=Crops(4)),
    BEST: PRESETS["best"],
}
SHORT = {POOLED: "pooled", BEST: "multilevel 512"}
HEADS = ("mlp", "gated", "bilinear", "ridge", "kernel-ridge", "svr", "ensemble")
NAMES = {"mos_quality": "quality", "mos_align": "alignment"}
PKU_TARGETS = ("MOS_q", "MOS_a", "MOS_c")
I2I_PROMPTS = 60
BASELINE = "generator_mean"
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


# ---- heads


@dataclass(frozen=True)
class Data:
    """One data set: its features are extracted and its heads are fitted on demand.

    Attributes:
        path: Folder of the data set.
        features, runs: Folders of stores and of runs.
        raters: Number of ratings of each score; None if it is unknown.
    """

    path: Path
    features: Path
    runs: Path
    raters: int | None = None

    @cached_property
    def report(self) -> CheckedDataset:
        """The checked rows; images that are stored are not decoded again."""
        known = frozenset().union(*(store.hexadecimal_keys() for store in stores(self.features)))
        return raise_for_problems(check(self.path, known=known, raters=self.raters), "stop")

    @property
    def manifest(self) -> Manifest:
        """The rows."""
        return self.report.manifest

    def stores(self, kind: str) -> tuple[FeatureStore, FeatureStore]:
        """Return the stores of a kind of features; extract what is missing in them."""
        folders = search_folders(self.path)
        image = find_image_encoder(KINDS[kind], None, folders)
        text = find_text_encoder(DEFAULT_TEXT_ENCODER, None, folders)
        options = ExtractionOptions(default_workers())
        encode(make_console(), self.path, self.features, self.report, [image, text], options)
        choice = ImageChoice(image.signature.folder_name)  # other kinds in the folder could match the options
        return find_stores(self.features, choice, DEFAULT_TEXT_ENCODER)

    def fit(self, kind: str = POOLED, **options: Any) -> Run:
        """Fit heads with these `FitOptions`, or read their run."""
        fit_options = FitOptions(**{"models": "none", **options})
        return fit_head(self.manifest, *self.stores(kind), fit_options, self.runs, sys.argv)


@dataclass(frozen=True)
class Lab:
    """What the tables are made of: the real images, the same in the PKU layout, and a folder for the rest."""

    real: Data
    pku: Data
    scratch: Path


def result(run: Run, target: str, metric: str = "srcc", name: str = "") -> Summary:
    """Return a metric of the result of a run, or of a selection, baseline or the raters' ceiling by name."""
    return run.results.summaries[target][name or run.results.headline][metric]


# ---- Markdown


def number(value: float, digits: int = 3) -> str:
    """Format a number without the zero before its point."""
    text = f"{value:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def cell(summary: Summary, interval: bool = True) -> str:
    """Format mean ± standard deviation [95 % interval of the recipe on new prompts]."""
    if np.isnan(summary.mean):
        return "none"
    text = number(summary.mean)
    if np.isfinite(summary.sd):
        text += f" ± {number(summary.sd)}"
    if interval and summary.interval:
        text += f" [{number(summary.interval[0])}, {number(summary.interval[1])}]"
    return text


def p_text(p: float) -> str:
    """Format a p-value; it is NaN where the recipe has none."""
    if np.isnan(p):
        return "no p"
    return "p < .001" if p < 0.001 else f"p {number(p)}"


def difference(comparison: Comparison) -> str:
    """Format the difference of two runs with its interval and its p after Holm's correction."""
    low, high = comparison.interval
    return f"{number(comparison.difference)} [{number(low)}, {number(high)}], {p_text(comparison.p_holm)}"


def span(values: Iterable[float]) -> str:
    """Format a range of numbers."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys([number(ordered[0]), number(ordered[-1])]))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


# ---- tables of cached heads


def features(lab: Lab) -> str:
    """SRCC of ridge and the published head on each kind of features."""
    rows = []
    for kind in KINDS:
        runs = [lab.real.fit(kind, estimator=head) for head in ("ridge", "mlp")]
        rows.append([kind, *(cell(result(run, target)) for target in NAMES for run in runs)])
    baselines = (result(runs[0], target, name=BASELINE) for target in NAMES)
    rows.append(["baseline", *(text for summary in baselines for text in (cell(summary), ""))])
    return markdown(
        ["features", *(f"{name}, {head}" for name in NAMES.values() for head in ("ridge", "`mlp`"))], rows
    )


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
            rows.append(
                [
                    short,
                    "both",
                    "no difference passes",
                    "",
                    "",
                    f"smallest {span(one.p_holm for one in comparisons).split(' ')[0]}",
                ]
            )
    return markdown(["features", "score", "ahead", "behind", "by", "p (Holm)"], rows)


def methods(lab: Lab) -> str:
    """Methods and benchmarks in the PKU layout."""
    rows = []
    for method, benchmark in (("nr", "I2I"), ("fr", "I2I"), ("nr", "all"), ("pr", "all")):
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
    for method, benchmark in (("nr", "I2I"), ("fr", "I2I"), ("nr", "all"), ("pr", "all")):
        runs = [
            lab.pku.fit(method=method, benchmark=benchmark, estimator=head).folder
            for head in ("ridge", "mlp")
        ]
        rows.append([f"`--method {method} --benchmark {benchmark}`", *map(difference, compare(runs))])
    return markdown(["`ridge` minus `mlp`, SRCC", *PKU_TARGETS], rows)


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
    default = lab.pku.fit(targets=("MOS_q",))
    published = lab.real.fit(recipe="published", repeats=5)
    cases = [("`tier fit-head Dataset --target MOS_q`", default, "MOS_q")]
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
            for head in ("mlp", "ridge", "kernel-ridge"):
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
    "real images": real_images,
    "levels": levels,
    "best test epoch": best_test_epoch,
    "leakage": leakage,
    "prediction intervals": prediction_intervals,
    "across": across,
}


# ---- slow tables: end to end, and speed

PROGRAMS = {  # tables of the JSON objects that programs in this folder print
    "extraction speed": (
        "extract.py {pku} --encoder resnet50 --rows 300 --plain-rows 16",
        "extract.py {pku} --encoder vit --rows 128 --plain-rows 16",
    ),
    "memory": ("memory.py -- --batch-size 8",),
    "store": ("store.py",),
    "published shape": ("heads.py",),
    "training step": (
        "finetune.py {pku} --encoder resnet50",
        "finetune.py {pku} --encoder vit --rounds 1 --steps 10 --plain-steps 3",
    ),
    "prediction": ("predict.py {real} --rounds 1",),
}
CHANGES = (
    "training_mode=true",
    "layer_decay=0.8",
    "gradient_clip=0",
    "warm_head=false",
    "warmup=0",
    "average=0",
    "learning_rate=1e-3",
)
REFERENCE = {"warmup": "0.1", "average": "0.97"}


def program_table(lab: Lab, name: str) -> str:
    """Show the JSON objects of the programs of a table, one column for each command."""
    columns = {}
    for command in PROGRAMS[name]:
        words = command.format(pku=lab.pku.path, real=lab.real.path).split()
        output = run_command([sys.executable, str(Path(__file__).with_name(words[0])), *words[1:]])
        title = command.format(pku="Dataset", real="AGIQA-3K")
        columns[f"`python benchmarks/{title}`"] = json.loads(output.splitlines()[-1])
    values = {
        key: [str(column.get(key, "")) for column in columns.values()] for key in next(iter(columns.values()))
    }
    return markdown(["value", *columns], ([f"`{key}`", *cells] for key, cells in values.items()))


def end_to_end(lab: Lab) -> str:
    """End-to-end training beside heads on stored features, same splits."""
    trained = finetuned(lab, "repeats", "--repeats=3")
    rows = [["trained end to end", "`mlp`", *own_cells(trained), "", "", f"{trained.seconds:.0f}"]]
    for kind, head in ((POOLED, "mlp"), (BEST, "mlp"), (BEST, "ridge")):
        stored = lab.real.fit(kind, estimator=head, targets=("mos_quality",), repeats=3)
        pair = [trained.folder, stored.folder]
        gaps = [difference(compare(pair, metric)[0]) for metric in ("srcc", "plcc")]
        rows.append([kind, f"`{head}`", *own_cells(stored), *gaps, f"{stored.seconds:.0f}"])
    ahead = [f"end to end ahead in {metric}" for metric in ("SRCC", "PLCC")]
    return markdown(["features", "head", "SRCC", "PLCC", *ahead, "seconds"], rows)


def own_cells(run: Run) -> list[str]:
    """Return cells with SRCC and PLCC of quality."""
    return [cell(result(run, "mos_quality", metric)) for metric in ("srcc", "plcc")]


def finetuned_heads(lab: Lab) -> str:
    """Heads on the features of finetuned encoders, three splits."""
    start = "`--start RUN`"
    srcc: dict[str, list[float]] = {}
    for seed in range(3):
        trained = finetuned(lab, f"seed-{seed}", "--repeats=1", f"--seed={seed}")
        folder = lab.scratch / f"finetuned-features-{seed}"
        tier("extract", lab.real.path, "-F", folder, "--finetuned", trained.folder)
        by_stream = {store.signature.stream: store for store in stores(folder)}
        base = FitOptions(targets=("mos_quality",), split=parse_split(f"{trained.folder}/splits.json:0"))
        for name, options in {
            start: replace(base, start=trained.folder),
            f"{start} `--seeds 5`": replace(base, start=trained.folder, seeds=5),
            "`ridge`": replace(base, estimator="ridge", head={"validation_fraction": "0.15"}),
            "`mlp`, fitted from the start": base,
        }.items():
            run = fit_head(
                lab.real.manifest, by_stream["image"], by_stream["text"], options, lab.scratch / "runs"
            )
            srcc.setdefault(name, []).append(result(run, "mos_quality").mean)
        srcc.setdefault("the run itself", []).append(result(trained, "mos_quality").mean)
    own = np.mean(srcc["the run itself"])
    rows = []
    for name, values in srcc.items():
        mean = np.mean(values)
        rows.append([name, ", ".join(map(number, values)), number(mean), number(own - mean)])
    return markdown(["head", "R = 0, 1, 2", "mean", "behind the run"], rows)


def finetuning_options(lab: Lab) -> str:
    """One option of the finetuning recipe changed at a time."""
    runs = {}
    for change in ("nothing", *CHANGES):
        name, _, value = change.partition("=")
        options = REFERENCE | ({name: value} if value else {})
        sets = [f"--set={option}={setting}" for option, setting in options.items()]
        runs[change] = finetuned(lab, change, "--image-size=128", "--folds=2", "--epochs=4", *sets)
    found = {change: compare([runs[change].folder, runs["nothing"].folder])[0] for change in CHANGES}
    corrected = holm_p(np.array([one.p for one in found.values()]))
    rows = [["nothing (reference)", number(result(runs["nothing"], "mos_quality").mean), "", ""]]
    for (change, one), p in zip(found.items(), corrected, strict=True):
        rows.append([f"`{change}`", number(one.means[0]), difference(replace(one, p_holm=one.p)), p_text(p)])
    return markdown(["changed", "SRCC quality", "difference, p", "p (Holm, 7)"], rows)


def finetuned(lab: Lab, name: str, *options: str) -> Run:
    """Train the encoders and the head for quality."""
    out = lab.scratch / f"finetuned-{name}"
    target = ("--finetune", "all", "--target", "mos_quality")
    tier("fit-head", lab.real.path, "-F", lab.real.features, "--out", out, *target, *options)
    return only_run(out)


def seconds_of_commands(lab: Lab) -> str:
    """Seconds of whole commands, with loading the program."""
    lab.pku.stores(POOLED)
    sweep = ("sweep", lab.pku.path, "-F", lab.pku.features, "--preset", "paper")
    rows = []
    for head in ("ridge", "mlp"):
        spent = tier(*sweep, "--head", head, "--out", lab.scratch / f"sweep-{head}")
        rows.append([f"`tier sweep Dataset --preset paper --head {head}`", f"{spent:.0f}"])
    rows.append(["`tier demo`", f"{tier('demo', lab.scratch / 'demo'):.0f}"])
    return markdown(["command", "seconds"], rows)


SLOW: dict[str, Callable[[Lab], str]] = {
    "end to end": end_to_end,
    "finetuned heads": finetuned_heads,
    "finetuning options": finetuning_options,
    "seconds of commands": seconds_of_commands,
    **{name: partial(program_table, name=name) for name in PROGRAMS},
}


# ---- program


def tier(*arguments: object) -> float:
    """Run one command of the command line; return its seconds."""
    start = time.perf_counter()
    run_command([sys.executable, "-m", "tier4k.cli", *map(str, arguments)])
    return time.perf_counter() - start


def run_command(command: Sequence[str]) -> str:
    """Return what a command prints; end with its message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def only_run(folder: Path) -> Run:
    """Read the only run of a folder."""
    (run,) = folder.glob("*/results.json")
    return read_run(run.parent)


def provenance() -> str:
    """State when, at which commit, where and with what tables were made."""
    describe = ["git", "-C", str(PAGE.parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = run_command(describe).strip()
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {library_version(name)}" for name in LIBRARIES)
    return (
        f"Date: {datetime.now(UTC):%Y-%m-%d}. Commit: {commit} (protocol {PROTOCOL_VERSION}). "
        f"Machine: {len(models)} cores, {models[0]}. "
        f"Versions: Python {platform.python_version()}, {versions}."
    )


def with_table(page: str, name: str, text: str) -> str:
    """Return the page with a table between its marks.

    Raises:
        SystemExit: The page has no such marks.
    """
    pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    changed, count = pattern.subn(lambda marks: f"{marks[1]}{text}{marks[2]}", page)
    if count != 1:
        raise SystemExit(f"{PAGE} has {count} places for the table {name!r}: add <!-- table: {name} -->")
    return changed


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
