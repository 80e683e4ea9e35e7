"""The commands that a campaign kills, what it prepares for them, and which results it looks at."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tier4k.tests.crash.material import ENCODERS, STORED_ENCODERS, UNUSED, WEIGHTS, make_old, read_many

Arguments = tuple[str, ...]
Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Scenario:
    """Commands that run at the same time, and are killed.

    Attributes:
        name: Its name.
        commands: Arguments of `tier` for each command.
        results: Folders and files that the commands write.
        weight: Share of its rounds among those of all scenarios.
        prepare: Changes a copy of the project before the first command.
        last: Commands after the undisturbed ones, before files are compared.
        reader: Reads results again and again beside the commands; raises if something is missing.
        has_processes: Whether the command starts processes, which are killed as well.
        ends_with_ray: Whether Ray ends the command with exit code 1 if one of Ray's own processes is killed.
        may_repeat: Whether work may be done twice: by two writers, or for files that a command replaces.
        disturbed: Whether it also runs on full, read-only and removed folders.
    """

    name: str
    commands: tuple[Arguments, ...]
    results: tuple[str, ...]
    weight: int
    prepare: Prepare = lambda _: None
    last: tuple[Arguments, ...] = ()
    reader: Callable[[Path], None] | None = None
    has_processes: bool = False
    ends_with_ray: bool = False
    may_repeat: bool = False
    disturbed: bool = True


def remove(*names: str) -> Prepare:
    """Return a function that removes folders and files of a project."""

    def removed(folder: Path) -> None:
        for name in names:
            shutil.rmtree(folder / name)

    return removed


def add_unused(folder: Path) -> None:
    """Add an old store that no data set uses to the features, which lack those of the images."""
    for path in (folder / "features").glob("test_resnet*"):
        shutil.rmtree(path)
    for path in (folder / UNUSED).iterdir():
        path.rename(folder / "features" / path.name)
    make_old(folder / "features")


def write_old_report(folder: Path) -> None:
    """Write a file where the report will be."""
    (folder / "report.html").write_text("an earlier report")


EXTRACT = ("extract", "data/table.csv", *ENCODERS, "--batch-size", "4")
COMPACT = ("store", "compact", "-F", "features")
ANEW = remove("features")
FIT = ("fit-head", "data/table.csv", "--split", "random", "--repeats", "2", "--out", "out")
CACHED = (*FIT, *STORED_ENCODERS, "--models", "all", "--epochs", "12", "--set", "hidden=16")
FINETUNE = (
    *(*FIT, *ENCODERS, "--finetune", "all", "--device", "cpu", "--models", "all", "--epochs", "3"),
    *("--train-batch-size", "4", "--set", "hidden=8", "--set", "patience=3"),
)
SWEEP = ("sweep", "data/table.csv", "--grid", "grid.toml", "--out", "out")
PREDICT = ("predict", "runs/ridge", "new/table.csv", *WEIGHTS, "--batch-size", "4")

_extraction = partial(Scenario, results=("features",), prepare=ANEW, last=(COMPACT,))

SCENARIOS = (
    _extraction("extract", ((*EXTRACT, "--workers", "1"),), weight=8),
    _extraction(
        "extract, two writers of the same rows",
        ((*EXTRACT, "--workers", "0"), (*EXTRACT, "--workers", "1")),
        weight=4,
        may_repeat=True,
    ),
    _extraction(
        "extract, two writers of a half each",
        ((*EXTRACT, "--shard", "1/2"), (*EXTRACT, "--shard", "2/2")),
        weight=4,
        may_repeat=True,
        disturbed=False,
    ),
    _extraction(
        "extract, two devices",
        ((*EXTRACT, "--device", "cpu,cpu", "--workers", "0"),),
        weight=1,
        has_processes=True,
        may_repeat=True,
        disturbed=False,
    ),
    _extraction(
        "extract, Ray",
        ((*EXTRACT, "--engine", "ray", "--actors", "1"),),
        weight=0,
        has_processes=True,
        ends_with_ray=True,
        may_repeat=True,
        disturbed=False,
    ),
    Scenario(
        "extract beside store gc",
        ((*EXTRACT, "--workers", "0"), ("store", "gc", "--delete", "-F", "features")),
        ("features",),
        weight=4,
        prepare=add_unused,
        last=(COMPACT,),
        may_repeat=True,
        disturbed=False,
    ),
    Scenario(
        "store compact beside a reader",
        (("store", "compact", "-F", "many"),),
        ("many",),
        weight=5,
        reader=read_many,
        may_repeat=True,
    ),
    Scenario("fit-head", (CACHED,), ("out",), weight=4),
    Scenario("sweep", (SWEEP,), ("out",), weight=4),
    Scenario(
        "sweep, two processes",
        ((*SWEEP, "--jobs", "2"),),
        ("out",),
        weight=1,
        has_processes=True,
        disturbed=False,
    ),
    Scenario("fit-head --finetune", (FINETUNE,), ("out",), weight=4),
    Scenario(
        "report",
        (("report", "runs/ridge", "runs/svr", "-o", "report.html"),),
        ("report.html",),
        weight=4,
        prepare=write_old_report,
        may_repeat=True,
    ),
    Scenario(
        "predict to Parquet",
        ((*PREDICT, "-o", "scores.parquet"),),
        ("scores.parquet", "features"),
        weight=3,
        last=(COMPACT,),
        may_repeat=True,
    ),
    Scenario(
        "predict to CSV",
        ((*PREDICT, "-o", "scores.csv"),),
        ("scores.csv", "features"),
        weight=3,
        last=(COMPACT,),
        may_repeat=True,
    ),
)
