"""The values of recorded stores, runs and exported models, read by today's code."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.cache.keys import sortable
from tier4k.cache.listing import stores
from tier4k.cache.signature import FORMAT_VERSION
from tier4k.extract.inputs.record import FOLDER, DatasetRecord
from tier4k.heads.results.find_run import runs_in
from tier4k.heads.results.model import MODEL_FORMAT, Model
from tier4k.heads.results.read import read_config, read_curves, read_predictions, read_rows, read_splits
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import RUN_FORMAT

DATA = Path(__file__).parents[1] / "data" / "compatibility"

VALUES_FILE = "values.json"

ROWS = 4  # on which recorded heads predict

FORMATS = {"stores": FORMAT_VERSION, "run": RUN_FORMAT, "model": MODEL_FORMAT}


def folder_of(name: str) -> Path:
    """Return the folder of what today's code writes: stores, run or model."""
    return DATA / f"{name}-{FORMATS[name]}"


def store_values(folder: Path) -> dict[str, Any]:
    """Return the features of every store, and the inputs of every data set."""
    values: dict[str, Any] = {}
    for store in stores(folder):
        keys = store.keys[np.argsort(sortable(store.keys))]
        features = store.read(keys)
        values[store.path.name] = {
            "shape": list(features.shape),
            "first": features.reshape(len(keys), -1)[:, 0].tolist(),
            "keys": hashlib.sha256(keys.tobytes()).hexdigest(),
            "features": hashlib.sha256(features.astype("<f4").tobytes()).hexdigest(),
        }
    for record in map(DatasetRecord.read, sorted((folder / FOLDER).iterdir())):
        values[record.path.name] = {
            "name": record.name,
            "images": list(record.names_of("image")),
            "texts": list(record.names_of("text")),
            "rows": len(record.inputs().rows),
        }
    return values


def run_values(folder: Path) -> dict[str, Any]:
    """Return the identity, the results and the heads of every run in a folder."""
    values: dict[str, Any] = {}
    for run in runs_in(folder):
        results = Results.read(run)
        predictions = read_predictions(run)
        summaries = {}
        for target, selections in results.summaries.items():
            summaries[target] = [selections[results.headline][metric].mean for metric in ("srcc", "rmse")]
        values[run.name] = {
            "digits": read_config(run).digest,
            "summaries": summaries,
            "predictions": predictions["prediction"].tolist(),
            "names": predictions["name"].tolist(),
            "test": [list(split.test) for split in read_splits(run)],
            "rows": read_rows(run)["image_key"].tolist(),
            "epochs": read_curves(run)["epoch"].tolist(),
            "heads": head_values(read_model(run)),
        }
    return values


def model_values(folder: Path) -> dict[str, Any]:
    """Return the heads of an exported model."""
    model = read_model(folder)
    half_widths = {f"{target} {repeat}": width for (target, repeat), width in model.half_widths.items()}
    return {"heads": head_values(model), "half_widths": half_widths}


def head_values(model: Model) -> dict[str, list[float]]:
    """Return the predictions of each head for rows that follow from a formula."""
    values = {}
    for (target, repeat), head in model.heads.items():
        width = head.n_features_in_
        rows = np.sin(np.arange(ROWS * width, dtype=np.float32)).reshape(ROWS, width)
        values[f"{target} {repeat}"] = np.asarray(head.predict(rows), float).tolist()
    return values


VALUES_OF: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "stores": store_values,
    "run": run_values,
    "model": model_values,
}
