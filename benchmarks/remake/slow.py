"""Tables of docs/benchmarks.md that take long or measure speed: end-to-end training, and programs beside."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tier4k.benchmarks.remake.lab import BEST, POOLED, Lab, only_run, result, run_command, tier
from tier4k.benchmarks.remake.markdown import cell, difference, markdown, number, p_text
from tier4k.cache.listing import stores
from tier4k.heads.data.split_request import parse_split
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.metrics.significance import holm
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.results.run import Run

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
        output = run_command([sys.executable, str(Path(__file__).parents[1] / words[0]), *words[1:]])
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
        own_stores = FeatureStores.of([by_stream["image"]], [by_stream["text"]])
        base = FitOptions(targets=("mos_quality",), split=parse_split(f"{trained.folder}/splits.json:0"))
        for name, options in {
            start: replace(base, start=trained.folder),
            f"{start} `--seeds 5`": replace(base, start=trained.folder, seeds=5),
            "`ridge`": replace(base, estimator="ridge", head={"validation_fraction": "0.15"}),
            "`mlp`, fitted from the start": base,
        }.items():
            run = fit_head(lab.real.manifest, own_stores, options, lab.scratch / "runs")
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
    corrected = holm(np.array([one.p for one in found.values()]))
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


def sweeps(lab: Lab) -> str:
    """Seconds of the sweep of the paper's table, with loading the program."""
    lab.pku.stores(POOLED)
    rows = []
    for head in ("ridge", "mlp"):
        options = ("--paper", "--head", head, "--out", lab.scratch / f"sweep-{head}")
        rows.append([f"`{head}`", f"{tier('sweep', lab.pku.path, '-F', lab.pku.features, *options):.0f}"])
    return markdown(["head", "seconds"], rows)


def demo(lab: Lab) -> str:
    """Seconds of the demo."""
    return f"`tier demo` takes {tier('demo', lab.scratch / 'demo'):.0f} s."


SLOW: dict[str, Callable[[Lab], str]] = {
    "end to end": end_to_end,
    "finetuned heads": finetuned_heads,
    "finetuning options": finetuning_options,
    "sweeps": sweeps,
    "demo": demo,
    **{name: partial(program_table, name=name) for name in PROGRAMS},
}
