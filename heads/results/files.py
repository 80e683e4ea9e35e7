"""One result format, whatever produced it: a folder runs/<id>/ that is there whole or not at all."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.signature import Signature
from tier4k.cache.store import writing
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.split_files import split_names
from tier4k.heads.data.splits import Split
from tier4k.heads.encoders.finetuned import encoders_folder
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.results.config import ZERO_SHOT_METHOD, RunConfig
from tier4k.heads.results.layout import _damaged, _file_of
from tier4k.heads.results.model import Model
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import RUN_FORMAT, require_current_format

CURVES = "curves.csv"

CURVE_TYPES = {
    "target": str,
    "repeat": int,
    "epoch": int,
    "training_loss": float,
    "validation_loss": float,
    "test_srcc": float,
}


def used_stores(out: Path) -> frozenset[str]:
    """Signature digests of the stores that the runs in a folder were fitted on.

    Raises:
        ResultError, SignatureError: A run cannot be read, so that it is not known what it uses.
    """
    used = set()
    for path in out.glob("*/config.json"):
        config = read_config(path.parent)
        used |= {Signature.from_dict(signature).digest for signature in config["signatures"].values()}
    return frozenset(used)


def require_writable(out: Path) -> None:
    """Make the folder of runs and try a file there, so that a fit does not end with nowhere to go.

    Raises:
        StoreError: The folder cannot be made or written to.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


def write_run(
    out: Path,
    config: RunConfig,
    environment: dict[str, Any],
    results: Results,
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
) -> Path:
    """Write runs/<id>/ in one step and return it.

    Args:
        out: Folder of runs.
        config: The configuration.
        environment: Versions, command line and time: recorded, not part of the identity.
        results: The figures.
        features: The rows.
        trials: Every fitted head.
        splits: One for each repeat.
    """
    folder = out / config.id

    def fill(path: Path) -> None:
        path.mkdir()
        _write_json(path / "config.json", {**asdict(config), "environment": environment})
        _write_json(path / "results.json", {"format": RUN_FORMAT, **asdict(results)})
        _write_json(path / "splits.json", split_names(features, splits))
        _predictions(features, trials, splits, results.headline).to_csv(path / "predictions.csv", index=False)
        _write_curves(path / CURVES, trials)
        _write_models(path, config, results, trials)
        for trial in trials:
            if trial.encoders:
                trial.encoders.write(encoders_folder(path, trial.target, trial.repeat))

    with writing(out):
        publish(folder, fill)
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json: the fields of `RunConfig`, and `environment`.

    Raises:
        ResultError: It is missing, damaged, or not a run's.
    """
    path = _file_of(folder, "config.json")
    require_current_format(folder)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        wanted: dict[str, type] = dict.fromkeys(
            ("data", "data_digest", "method", "benchmark", "split", "recipe", "estimator"), str
        )
        wanted |= {"head": dict, "finetune": dict, "signatures": dict, "stages": list, "start": str}
        wanted |= {"repeats": int, "seed": int, "seeds": int, "protocol": int, "environment": dict}
        wrong = [name for name, kind in wanted.items() if not isinstance(config[name], kind)]
        streams = ("score",) if config["method"] == ZERO_SHOT_METHOD else ("image", "text")
        signatures = [config["signatures"][stream] for stream in (*streams, *config["signatures"])]
        wrong += [
            f"signature {signature}"
            for signature in signatures
            if not isinstance(signature.get("encoder"), str)
        ]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is of another type")
        return config
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_predictions(run: Path) -> pd.DataFrame:
    """A run's predictions: name, generator, group, benchmark (I2I or T2I), repeat, target, truth, prediction.

    Raises:
        ResultError: They are missing or damaged.
    """
    types: dict[str, type] = dict.fromkeys(("name", "generator", "group", "benchmark"), str)
    types |= {"repeat": int, "target": str, "truth": float, "prediction": float}
    path = _file_of(run, "predictions.csv")
    require_current_format(run)
    try:
        frame = pd.read_csv(
            path, dtype=types, keep_default_na=False, na_values={"prediction": [""], "truth": [""]}
        )
        return frame[list(types)]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def read_curves(run: Path) -> pd.DataFrame:
    """How a run's heads were trained: target, repeat, epoch (from 1), training_loss, validation_loss, test_srcc; no line without epochs.

    Raises:
        ResultError: They are damaged.
    """
    path = run / CURVES
    require_current_format(run)
    if not path.exists():
        return pd.DataFrame(columns=list(CURVE_TYPES))
    try:
        missing = {name: [""] for name, kind in CURVE_TYPES.items() if kind is float}
        return pd.read_csv(path, dtype=CURVE_TYPES, keep_default_na=False, na_values=missing)[
            list(CURVE_TYPES)
        ]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _write_curves(path: Path, trials: Sequence[Trial]) -> None:
    frames = [
        pd.DataFrame(asdict(trial.curve)).assign(
            target=trial.target, repeat=trial.repeat, epoch=range(1, len(trial.curve.test_srcc) + 1)
        )
        for trial in trials
        if trial.curve
    ]
    if frames:
        pd.concat(frames)[list(CURVE_TYPES)].to_csv(path, index=False)


def _write_models(path: Path, config: RunConfig, results: Results, trials: Sequence[Trial]) -> None:
    chosen = [
        trial
        for trial in trials
        if config.models == "all" or (config.models == "first" and trial.repeat == 0)
    ]
    kept = {(trial.target, trial.repeat): trial.head for trial in chosen if trial.head is not None}
    if not kept:
        return
    widths = {
        (target, repeat): results.intervals[target].half_width[repeat]
        for target, repeat in kept
        if target in results.intervals
    }
    model = Model(
        path,
        cast(Method, config.method),
        cast(HeadName, config.estimator),
        config.head,
        {stream: Signature.from_dict(values) for stream, values in config.signatures.items()},
        config.stages,
        kept,
        {(trial.target, trial.repeat): trial.seed for trial in chosen},
        widths,
    )
    model.write()


def _predictions(
    features: FeatureSet, trials: Sequence[Trial], splits: Sequence[Split], selection: str
) -> pd.DataFrame:
    frames = []
    for trial in trials:
        test = splits[trial.repeat].test
        columns = {
            "name": features.name[test],
            "generator": features.generator[test],
            "group": features.group[test],
        }
        columns["benchmark"] = np.where(features.has_image_prompt[test], "I2I", "T2I")
        columns |= {
            "repeat": trial.repeat,
            "target": trial.target,
            "truth": trial.truth,
            "prediction": trial.predictions[selection],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(_without_nan(values), indent=1) + "\n", encoding="utf-8")


def _without_nan(values: object) -> object:
    # JSON has no NaN; null stands for it, and `reasons` says why.
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
