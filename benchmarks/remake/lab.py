"""Data sets of `benchmarks/tables.py`: what is missing is extracted and fitted on demand."""

import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tier4k.cache.listing import stores
from tier4k.cache.stored_keys import StoredKeys
from tier4k.extract.datasets.check import CheckedDataset, check, raise_for_problems
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.crops import Crops
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.versions import library_version
from tier4k.extract.stores.find import find_stores
from tier4k.extract.weights.files import search_folders
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.encoding import encode
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.run_format import PROTOCOL_VERSION
from tier4k.heads.sweeps.grid import Cell, grid_cells
from tier4k.heads.sweeps.run import run_sweep

POOLED = "pooled, 224"
MULTILEVEL = "multilevel, 224"
BEST = "multilevel, 512 (`--preset best`)"
CLIP = "CLIP (`--preset clip`)"
KINDS = {
    POOLED: ImageChoice(feature="pooled"),
    MULTILEVEL: ImageChoice(feature="multilevel"),
    "multilevel, 224, `--crops 4`": ImageChoice(feature="multilevel", crops=Crops(4)),
    BEST: PRESETS["best"].images[0],
}
SHORT = {POOLED: "pooled", BEST: "multilevel 512"}
NAMES = {"mos_quality": "quality", "mos_align": "alignment"}
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


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
        known = StoredKeys(stores(self.features))
        return raise_for_problems(check(self.path, known=known, raters=self.raters), "stop")

    @property
    def manifest(self) -> Manifest:
        """The rows."""
        return self.report.manifest

    @cache  # noqa: B019 (a program has two of these)
    def stores(self, kind: str) -> FeatureStores:
        """Return the stores of images and prompts of a kind of features; extract what is missing."""
        folders = search_folders(self.path)
        image = find_image_encoder({**KINDS, CLIP: PRESETS["clip"].images[0]}[kind], None, folders)
        text = find_text_encoder(DEFAULT_TEXT_ENCODER, None, folders)
        options = ExtractionOptions(default_workers())
        encode(Console(), self.path, self.features, self.report, [image, text], options)
        choice = ImageChoice(image.signature.folder_name)  # other kinds in the folder could match the options
        return FeatureStores.of(*find_stores(self.features, [choice], [DEFAULT_TEXT_ENCODER]))

    def fit(self, kind: str = POOLED, **options: Any) -> Run:
        """Fit heads with these `FitOptions`, or read their run."""
        fit_options = FitOptions(**{"models": "none", **options})
        return fit_head(self.manifest, self.stores(kind), fit_options, self.runs, sys.argv)

    def sweep(self, grid: Mapping[str, Any], kinds: Sequence[str]) -> list[Run]:
        """Fit or read the runs of a grid, on these kinds of features in place of its image encoders."""
        folders = []
        for kind in kinds:
            (image,) = self.stores(kind).images.values()
            folders.append(image.path.name)
        base = Cell(EncoderChoice((ImageChoice(),), (DEFAULT_TEXT_ENCODER,)), FitOptions(models="none"))
        cells = grid_cells({**grid, "image_encoder": folders}, self.manifest, base).cells
        return list(run_sweep(self.manifest, self.features, cells, self.runs, sys.argv))


@dataclass(frozen=True)
class Lab:
    """What the tables are made of: the real images, the same in the PKU layout, and a folder for the rest."""

    real: Data
    pku: Data
    scratch: Path


def result(run: Run, target: str, metric: str = "srcc", name: str = "") -> Summary:
    """Return a metric of the result of a run, or of a selection, baseline or the raters' ceiling by name."""
    return run.results.summaries[target][name or run.results.headline][metric]


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
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = run_command(describe).strip()
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {library_version(name)}" for name in LIBRARIES)
    return (
        f"Date: {datetime.now(UTC):%Y-%m-%d}. Commit: {commit} (protocol {PROTOCOL_VERSION}). "
        f"Machine: {len(models)} cores, {models[0]}. "
        f"Versions: Python {platform.python_version()}, {versions}."
    )
