"""Read the files of a run. `layout.py` lists the files, `write.py` writes them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import pandas as pd

from tier4k.cache.text import shortened
from tier4k.extract.datasets.choices import Stream
from tier4k.heads.data.fusion import encoder_kinds
from tier4k.heads.data.stored_splits import StoredSplit
from tier4k.heads.results.config import SEVERAL, ZERO_SHOT_METHOD, RunConfig
from tier4k.heads.results.layout import (
    CANDIDATES,
    CONFIG_FILE,
    CURVES_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    ROWS_FILE,
    SPLITS_FILE,
    damaged,
    existing_file,
    read_run_file,
    require_current_format,
)
from tier4k.heads.results.results import Results

PREDICTION_TYPES: Mapping[str, type] = {
    "name": str,
    "generator": str,
    "group": str,
    "benchmark": str,
    "repeat": int,
    "target": str,
    "truth": float,
    "prediction": float,
}

DATASET_TYPE: Mapping[str, type] = {"dataset": str}
"""The column that the predictions of several data sets also have."""

ROW_TYPES: Mapping[str, type] = {
    "name": str,
    "prompt": str,
    "generator": str,
    "image_key": str,
    "image_prompt_key": str,
}

CURVE_TYPES: Mapping[str, type] = {
    "target": str,
    "repeat": int,
    "epoch": int,
    "training_loss": float,
    "validation_loss": float,
    "test_srcc": float,
}


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a run, with its environment.

    Raises:
        ResultError: The configuration is missing or damaged, or the run has another format.
    """
    config = read_run_file(folder, CONFIG_FILE, RunConfig)
    available = {signature.stream for signature in config.signatures.values()}
    missing = [kind for kind in _signature_kinds(config) if kind not in available]
    if missing:
        problem = f"`$.signatures` lacks {' and '.join(missing)}"
        raise damaged(folder / CONFIG_FILE, ValueError(problem))
    return config


def _signature_kinds(config: RunConfig) -> tuple[str, ...]:
    """Return the kinds of signatures that a run must have."""
    if config.method == ZERO_SHOT_METHOD:
        return ("score",)
    if config.method == SEVERAL or SEVERAL in config.streams:
        return ()  # the candidates of a search differ in what they read
    return encoder_kinds(config.method, cast(tuple[Stream, ...], config.streams))


def read_predictions(run: Path) -> pd.DataFrame:
    """Read the predictions of a run, with the columns of `PREDICTION_TYPES`; benchmark is I2I or T2I.

    Raises:
        ResultError: The predictions are missing or damaged, do not belong to the results, or the run has
            another format.
    """
    path = existing_file(run, PREDICTIONS_FILE)
    require_current_format(run)
    predictions = _read_table(path, PREDICTION_TYPES, DATASET_TYPE)
    for problem in _contradictions(predictions, Results.read(run)):
        raise damaged(path, ValueError(problem))
    return predictions


def _contradictions(predictions: pd.DataFrame, results: Results) -> Iterator[str]:
    """Yield what predictions have that the results of the same run cannot have."""
    unknown = set(predictions["target"]) - set(results.summaries)
    if unknown:
        yield f"the target {shortened(min(unknown), 60)!r} is not in {RESULTS_FILE}"
    repeats = len(results.test_rows)
    outside = predictions["repeat"][~predictions["repeat"].between(0, repeats - 1)]
    if len(outside):
        yield f"there is a repeat {outside.iloc[0]}, and {RESULTS_FILE} has {repeats} repeats, from 0"
    if np.isinf(predictions["truth"]).any():
        yield "a score is infinite"


def read_rows(run: Path) -> pd.DataFrame:
    """Read the rows that the kept heads of a run were fitted or tested on, with the columns of `ROW_TYPES`.

    Raises:
        ResultError: The rows are missing or damaged, or the run has another format.
    """
    path = existing_file(run, ROWS_FILE)
    require_current_format(run)
    return _read_table(path, ROW_TYPES)


def read_splits(run: Path) -> list[StoredSplit]:
    """Read the splits of a run, one for each repeat.

    Raises:
        ResultError: The splits are missing or damaged, or the run has another format.
    """
    return read_run_file(run, SPLITS_FILE, list[StoredSplit])


def read_curves(run: Path) -> pd.DataFrame:
    """Read the training histories of the heads of a run; heads without epochs have no line.

    The columns are target, repeat, epoch (from 1), training_loss, validation_loss and test_srcc.

    Raises:
        ResultError: The histories are damaged, or the run has another format.
    """
    path = run / CURVES_FILE
    require_current_format(run)
    if not path.exists():
        return pd.DataFrame(columns=list(CURVE_TYPES))
    return _read_table(path, CURVE_TYPES)


def used_stores(out: Path) -> frozenset[str]:
    """Return the signature digests of the stores that the runs in a folder were fitted on.

    Raises:
        ResultError: A run cannot be read, so that its stores are unknown.
    """
    used = set()
    for folder in (out, out / CANDIDATES):
        for path in folder.glob(f"*/{CONFIG_FILE}"):
            for signature in read_config(path.parent).signatures.values():
                used.add(signature.digest)
    return frozenset(used)


def _read_table(
    path: Path,
    types: Mapping[str, type],
    optional: Mapping[str, type] = MappingProxyType({}),
) -> pd.DataFrame:
    """Read a table with the given columns, and with those of `optional` that it has."""
    # An empty cell is NaN where a number is expected; the name of a generator can be "NA".
    nan_texts = {name: [""] for name, kind in types.items() if kind is float}
    try:
        frame = pd.read_csv(
            path,
            dtype={**types, **optional},
            keep_default_na=False,
            na_values=nan_texts,
            float_precision="round_trip",  # the default errs in the last digit
        )
        return frame[[*types, *(name for name in optional if name in frame)]]
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise damaged(path, error) from error
