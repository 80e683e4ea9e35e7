"""A data set with hostile names, and runs on it for the tables and the report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import make_splits
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import resolve_options
from tier4k.heads.results.config import Environment, RunConfig
from tier4k.heads.results.results import Results
from tier4k.heads.results.write import write_run
from tier4k.tests.builders.data import write_table

ROWS, REPEATS = 48, 2
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{7*7}}.png"
HOSTILE_GENERATOR = "<a href='https://example.org'>G</a></script>"


@dataclass(frozen=True)
class Sample:
    """A data set and three runs on it: two heads on one split, and one split that leaks."""

    data: Path
    ridge: Path
    mlp: Path
    leaking: Path

    @property
    def runs(self) -> list[Path]:
        return [self.ridge, self.mlp, self.leaking]


def make_sample(folder: Path) -> Sample:
    """Write a sample; one image and one generator have hostile names."""
    names = [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row // 4:03d}_{row:02d}.png" for row in range(ROWS)]
    names[7] = HOSTILE  # a test row of the published split
    scores = np.random.default_rng(0).uniform(1, 5, ROWS).round(3)
    frame = pd.DataFrame(
        {"image": names, "prompt": [f"secret prompt {row // 4}" for row in range(ROWS)], "quality": scores}
    )
    frame["generator"] = [(HOSTILE_GENERATOR, "SD", "DALLE")[row % 3] for row in range(ROWS)]
    frame["align"] = np.roll(scores, 1)
    (folder / "set" / Path(HOSTILE).parent).mkdir(parents=True)
    data = write_table(folder / "set" / "toy.csv", frame)
    manifest = check(data).manifest
    out = folder / "runs"
    return Sample(
        data,
        fit_run(out, manifest, "ridge", "prompt"),
        fit_run(out, manifest, "mlp", "prompt", {"max_epochs": 3, "hidden": 3}),
        fit_run(out, manifest, "ridge", "published"),
    )


def random_features(manifest: Manifest) -> FeatureSet:
    """Random features that correlate weakly with the scores; a third of the prompts has an image prompt."""
    table = manifest.table
    scores = table[list(manifest.targets)].to_numpy(float)
    random = np.random.default_rng(7)
    weights = random.normal(size=(len(manifest.targets), 6))
    image = scores @ weights + random.normal(0, 2, (len(table), 6))
    return FeatureSet(
        text={"bert": random.normal(size=(len(table), 2))},
        image={"resnet18": image},
        image_prompt={"resnet18": np.zeros_like(image)},
        has_image_prompt=np.arange(len(table)) // 4 % 3 == 0,
        targets=scores,
        target_names=manifest.targets,
        score_errors=np.array([manifest.score_errors(target) for target in manifest.targets]).T,
        **vars(Rows.of(manifest)),
    )


def fit_run(
    out: Path,
    manifest: Manifest,
    head: HeadName,
    split: SplitRule,
    options: dict[str, Any] | None = None,
    targets: tuple[str, ...] = (),
    **more: Any,
) -> Path:
    """Fit and write a run on `random_features`; `more` changes its configuration."""
    targets = targets or manifest.targets
    features = random_features(manifest)
    resolved = resolve_options(head, "cached", "resnet18", options or {})
    splits = make_splits(features, split, REPEATS, 0, resolved.get("validation_fraction", 0.0))
    trials = run_trials(features, fuse(features, "nr"), targets, splits, head, resolved)
    made = {
        stream: Signature(stream, f"{stream}net", "net", "0" * 64, "native: as it is", "pooled")
        for stream in ("image", "text")
    }
    signatures = made
    config = RunConfig(
        data=manifest.name, data_digest=manifest.digest, method="nr", benchmark="all", targets=targets, signatures=signatures,  # noqa: E501
        split=split, repeats=REPEATS, seed=0, recipe="cached", estimator=head, head=resolved, models="none",
    )  # fmt: skip
    config = replace(config, **more)
    environment = Environment(
        command=("/home/somebody/bin/tier", "fit-head", "my data <b>"),
        python="3.11.7",
        versions={"numpy": "2.4.6"},
    )
    config = replace(config, environment=environment)
    results = Results.of(config, features, trials, splits, summarize(features, trials, splits))
    return write_run(out, config, results, features, trials, splits, manifest.table)
