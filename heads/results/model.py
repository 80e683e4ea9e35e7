"""Fitted heads as files: tensors in safetensors, everything else in JSON. Loading them executes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.evaluation.trial import mean_over_crops
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import require_head_options, restore_head
from tier4k.heads.results.json_files import read_json, write_json
from tier4k.heads.results.layout import (
    MODEL_FILE,
    WEIGHTS_FILE,
    described,
    format_of,
    is_run,
    require_current_format,
)

MODEL_FORMAT = 2

EXPORTED_FILE = "config.json"  # of an exported model, in place of model.json

HeadKey = tuple[str, int]  # target and repeat


class ModelError(TierError):
    """Fitted heads that are missing, cannot be read, or are not those that were asked for."""


@dataclass(frozen=True)
class HeadRecord:
    """One head in model.json.

    Attributes:
        target, repeat, seed: Of the head.
        half_width: Of its conformal interval, in units of the score; None where it is unknown or infinite.
    """

    target: str
    repeat: int
    seed: int
    half_width: float | None


@dataclass(frozen=True)
class ModelRecord:
    """Content of model.json, and of config.json of an exported model: everything but the tensors.

    Attributes:
        format: `MODEL_FORMAT`.
        method, estimator, options, signatures, stages: As of `Model`.
        heads: The heads.
    """

    format: int
    method: Method
    estimator: HeadName
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: tuple[HeadRecord, ...]


@dataclass(frozen=True)
class Model:
    """The fitted heads of a run.

    Attributes:
        folder: The run's folder, or an exported one.
        method: How the features are fused.
        estimator: Name of the head.
        options: Its options.
        signatures: Of the features that the heads read: "image" and "text", and scorers by their names where
            the heads see their scores.
        stages: Names of the levels of multilevel features that the heads read; none for all.
        heads: By target and repeat.
        seeds: Of the heads.
        half_widths: Of the heads' conformal intervals, in units of the score; none for heads without rows
            held out of training.
    """

    folder: Path
    method: Method
    estimator: HeadName
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: dict[HeadKey, Head]
    seeds: dict[HeadKey, int]
    half_widths: dict[HeadKey, float]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(dict.fromkeys(target for target, _ in self.heads))

    def only(self, target: str | None = None, repeat: int | None = None) -> "Model":
        """The same model with the heads of one target, or of one repeat, alone.

        Raises:
            ModelError: It has no such heads.
        """
        repeats = sorted({number for _, number in self.heads})
        if target is not None and target not in self.targets:
            targets = ", ".join(self.targets)
            raise ModelError(f"{self.folder} has no heads for the target {target!r}: choose among {targets}")
        if repeat is not None and repeat not in repeats:
            kept = ", ".join(map(str, repeats))
            raise ModelError(f"{self.folder} has no heads of repeat {repeat}: it kept {kept}")
        heads = {}
        for key, head in self.heads.items():
            if target in (None, key[0]) and repeat in (None, key[1]):
                heads[key] = head
        return replace(self, heads=heads)

    def predict(self, features: FeatureSet) -> dict[HeadKey, np.ndarray]:
        """Predictions of every head for rows of features: scores (N,) by target and repeat.

        Raises:
            FusionError: Full reference, and a row has no image prompt.
        """
        fused = fuse(features, self.method)
        mean = fused.mean(axis=1) if fused.ndim == 3 else fused
        predicted = {}
        for key, head in self.heads.items():
            predicted[key] = mean_over_crops(head.predict, mean if head.averages_crops else fused)
        return predicted

    def record(self) -> ModelRecord:
        """Everything but the tensors, for JSON."""
        heads = []
        for target, repeat in self.heads:
            width = self.half_widths.get((target, repeat), np.inf)
            half_width = float(width) if isfinite(width) else None
            heads.append(HeadRecord(target, repeat, self.seeds[target, repeat], half_width))
        return ModelRecord(
            format=MODEL_FORMAT,
            method=self.method,
            estimator=self.estimator,
            options=self.options,
            signatures=self.signatures,
            stages=self.stages,
            heads=tuple(heads),
        )

    def write(self, record_file: str = MODEL_FILE) -> None:
        """Write the record and the tensors into the folder."""
        tensors = {}
        for (target, repeat), head in self.heads.items():
            for name, values in head.weights_.items():
                tensors[f"{target}/{repeat}/{name}"] = np.ascontiguousarray(values)
        save_file(tensors, self.folder / WEIGHTS_FILE)
        write_json(self.folder / record_file, self.record())


def read_model(folder: Path) -> Model:
    """Read the heads of a run, or of an exported model; only tensors and JSON are read.

    Raises:
        ModelError: The run kept no models, they are damaged, or of another version of the format.
        ResultError: The run is of another format.
    """
    require_current_format(folder)
    path = _record_file(folder)
    found = format_of(path)
    if found not in (None, MODEL_FORMAT):
        raise ModelError(
            f"{path} is of format {found}, this program reads {MODEL_FORMAT}: fit the run again, or use "
            "the version of tier4k that wrote it"
        )
    try:
        record = read_json(path, ModelRecord)
        return _restored(folder, record, load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, TierError) as error:
        raise ModelError(
            f"{folder} has no readable models ({path.name}: {described(error)}): "
            "fit it again with --models all"
        ) from error


def _record_file(folder: Path) -> Path:
    belongs_to_run = is_run(folder) or (folder / MODEL_FILE).is_file()
    path = folder / (MODEL_FILE if belongs_to_run else EXPORTED_FILE)
    if path.is_file():
        return path
    problem = "is not the folder of a run"
    if belongs_to_run:
        problem = (
            "kept no fitted heads (one of `tier score` has none: "
            "its scorer is evaluated by `tier score DATA`)"
        )
    raise ModelError(
        f"{folder} {problem}: give the folder of a run fitted with --models all or first, such as runs/ID"
    )


def _restored(
    folder: Path,
    record: ModelRecord,
    tensors: Mapping[str, np.ndarray],
) -> Model:
    if missing := [stream for stream in ("image", "text") if stream not in record.signatures]:
        raise ValueError(f"`$.signatures` lacks {' and '.join(missing)}")
    require_head_options(record.estimator, record.options, "$.options")
    model = Model(
        folder=folder,
        method=record.method,
        estimator=record.estimator,
        options=record.options,
        signatures=record.signatures,
        stages=record.stages,
        heads={},
        seeds={},
        half_widths={},
    )
    for one in record.heads:
        key = (one.target, one.repeat)
        weights = dict(_below(tensors, f"{one.target}/{one.repeat}/"))
        model.heads[key] = restore_head(record.estimator, weights, record.options, one.seed)
        model.seeds[key] = one.seed
        if one.half_width is not None:
            model.half_widths[key] = one.half_width
    return model


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in tensors.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), values


def score_table(
    names: Sequence[str],
    predicted: Mapping[HeadKey, np.ndarray],
    half_widths: Mapping[HeadKey, float],
) -> pd.DataFrame:
    """One line for each image and target: name, target, score, low, high, spread.

    `score` is the mean over the heads of all repeats and `spread` their standard deviation (NaN for one
    head). The interval low … high has the mean of their half-widths, as an absolute error of the mean is at
    most the mean of the absolute errors; it is NaN where a head has none.

    Args:
        names: Of the N images.
        predicted: Scores (N,) by target and repeat.
        half_widths: Of the conformal intervals.
    """
    frames = []
    for target in dict.fromkeys(target for target, _ in predicted):
        keys = [key for key in predicted if key[0] == target]
        scores = np.stack([predicted[key] for key in keys])
        score = scores.mean(axis=0)
        width = float(np.mean([half_widths.get(key, np.nan) for key in keys]))
        spread = scores.std(axis=0, ddof=1) if len(keys) > 1 else np.full(len(score), np.nan)
        columns = {
            "name": names,
            "target": target,
            "score": score,
            "low": score - width,
            "high": score + width,
            "spread": spread,
            "row": range(len(score)),
        }
        frames.append(pd.DataFrame(columns))
    table = pd.concat(frames).sort_values("row", kind="stable")
    return table.drop(columns="row").reset_index(drop=True)
