"""Write the folder of a run, completely or not at all. `layout.py` lists the files."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.choices import Stream
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.data.stored_splits import stored_splits
from tier4k.heads.evaluation.trial import CALIBRATED, Trial
from tier4k.heads.regressors.head_spec import HeadSpec
from tier4k.heads.regressors.registry import head_spec
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.json_files import write_json
from tier4k.heads.results.layout import (
    CONFIG_FILE,
    CURVES_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    ROWS_FILE,
    SPLITS_FILE,
    encoders_folder,
)
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.names import run_name
from tier4k.heads.results.read import CURVE_TYPES, ROW_TYPES
from tier4k.heads.results.results import Results


def require_writable(out: Path) -> None:
    """Make the folder of runs and write a test file, before hours of work are spent on a run.

    Raises:
        StoreError: The folder cannot be made or written to.
    """
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


def write_run(
    out: Path,
    config: RunConfig,
    results: Results,
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
    rows: pd.DataFrame,
) -> Path:
    """Write runs/ID in one step and return it.

    Args:
        out: Folder of runs.
        config: Configuration of the run, with the environment.
        results: Results of the run.
        features: Features and scores of the rows that the run uses.
        trials: One trial for each target and repeat.
        splits: One split for each repeat.
        rows: The rows of the data set, with the columns of `ROW_TYPES`.

    Raises:
        StoreError: The folder exists, or cannot be written.
    """
    folder = out / run_name(config)

    def fill(path: Path) -> None:
        """Write the files of the run into a new folder."""
        path.mkdir()
        write_json(path / CONFIG_FILE, config)
        write_json(path / RESULTS_FILE, results)
        write_json(path / SPLITS_FILE, stored_splits(features, splits))
        predictions = _predictions(features, trials, results.headline)
        predictions.to_csv(path / PREDICTIONS_FILE, index=False)
        _write_curves(path / CURVES_FILE, trials)
        if kept_trials := list(_kept_trials(config, trials)):
            _write_model(path, config, results, kept_trials)
            rows[list(ROW_TYPES)].to_csv(path / ROWS_FILE, index=False)
        _write_encoders(path, trials)

    with explain_write_errors(out):
        publish(folder, fill)
    return folder


def _predictions(
    features: FeatureSet,
    trials: Sequence[Trial],
    selection: str,
) -> pd.DataFrame:
    frames = []
    has_datasets = len(np.unique(features.dataset)) > 1
    for trial in trials:
        test = trial.test
        columns = {
            "name": features.name[test],
            "generator": features.generator[test],
            "group": features.group[test],
            "benchmark": np.where(features.has_image_prompt[test], "I2I", "T2I"),
            "repeat": trial.repeat,
            "target": trial.target,
            "truth": trial.truth,
            "prediction": trial.predictions[selection],
        }
        if has_datasets:
            columns["dataset"] = features.dataset[test]
        if CALIBRATED in trial.predictions:
            columns[CALIBRATED] = trial.predictions[CALIBRATED]
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _write_curves(path: Path, trials: Sequence[Trial]) -> None:
    frames = []
    for trial in trials:
        if trial.curve is None:
            continue
        frame = pd.DataFrame(asdict(trial.curve))
        epochs = range(1, len(frame) + 1)
        frames.append(frame.assign(target=trial.target, repeat=trial.repeat, epoch=epochs))
    if frames:
        pd.concat(frames)[list(CURVE_TYPES)].to_csv(path, index=False)


def _write_model(
    path: Path,
    config: RunConfig,
    results: Results,
    kept_trials: Sequence[Trial],
) -> None:
    half_widths: dict[HeadKey, float] = {}
    for trial in kept_trials:
        if interval := results.prediction_intervals.get(trial.target):
            half_widths[trial.target, trial.repeat] = interval.half_width[trial.repeat]
    model = Model(
        folder=path,
        method=cast(Method, config.method),
        estimator=config.estimator,
        options=config.head,
        signatures=config.signatures,
        stages=config.stages,
        heads={(trial.target, trial.repeat): trial.head for trial in kept_trials if trial.head is not None},
        seeds={(trial.target, trial.repeat): trial.seed for trial in kept_trials},
        half_widths=half_widths,
        scales={(trial.target, trial.repeat): trial.scale for trial in kept_trials if trial.scale},
        streams=cast(tuple[Stream, ...], config.streams),
        templates=config.templates,
        head_class=_head_class(config),
        code=config.plugins,
    )
    model.write()


def _head_class(config: RunConfig) -> str:
    """Return the import path of the class of heads, if a user's package defines it; else ""."""
    spec = head_spec(config.estimator)
    return config.plugins[0].path if config.plugins and isinstance(spec, HeadSpec) else ""


def _kept_trials(config: RunConfig, trials: Sequence[Trial]) -> Iterator[Trial]:
    for trial in trials:
        is_kept = config.models == "all" or (config.models == "first" and trial.repeat == 0)
        if is_kept and trial.head is not None:
            yield trial


def _write_encoders(path: Path, trials: Sequence[Trial]) -> None:
    for trial in trials:
        if trial.encoders is not None:
            trial.encoders.write(encoders_folder(path, trial.target, trial.repeat))
