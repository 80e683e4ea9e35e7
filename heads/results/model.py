"""Write and read fitted heads: tensors as safetensors, everything else as JSON. Loading executes no code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import Stream
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import encoder_kinds, fuse, needed_inputs, used_streams
from tier4k.heads.data.interactions import NO_INTERACTION
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

MODEL_FORMAT = 3

EXPORTED_FILE = "config.json"  # of an exported model, in place of model.json

HeadKey = tuple[str, int]  # target and repeat


class ModelError(TierError):
    """Fitted heads are missing, cannot be read, or differ from the requested heads."""


@dataclass(frozen=True)
class HeadRecord:
    """One head in model.json.

    Attributes:
        target, repeat, seed: Target, repeat and seed of the head.
        half_width: Half-width of the conformal interval, in units of the score; None if unknown or infinite.
        scale: Name of the data set whose scale the scores have; "" if the head was fitted on one data set.
    """

    target: str
    repeat: int
    seed: int
    half_width: float | None
    scale: str = ""


@dataclass(frozen=True)
class ModelRecord:
    """Content of model.json, and of config.json of an exported model: everything but the tensors.

    Attributes:
        format: `MODEL_FORMAT`.
        method, estimator, options, signatures, stages, streams, templates: See `Model`.
        heads: Records of the heads.
    """

    format: int
    method: Method
    estimator: HeadName
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: tuple[HeadRecord, ...]
    streams: tuple[Stream, ...] = ()
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """The fitted heads of a run.

    Attributes:
        folder: Folder of the run or of the exported model.
        method: How the features are fused.
        estimator: Name of the head.
        options: Options of the head.
        signatures: Signatures of the features that the heads use, named as in `RunConfig`.
        stages: Names of the levels of multilevel features that the heads use, as in
            `tier4k.heads.data.stages`; empty for all.
        heads: Fitted heads by target and repeat.
        seeds: Seeds of the heads.
        half_widths: Half-widths of the conformal intervals, in units of the score, for heads with held-out
            rows.
        scales: Names of the data sets whose scales the heads' scores have, for heads that were fitted on
            several.
        streams: Streams of the method that the heads use; empty for all.
        templates: Texts that the interaction "templates" compares images with; empty without it.
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
    scales: dict[HeadKey, str] = field(default_factory=dict)
    streams: tuple[Stream, ...] = ()
    templates: tuple[str, ...] = ()

    @property
    def interaction(self) -> str:
        """The interaction whose embeddings the heads need; "none" also for heads from before the option."""
        return str(self.options.get("interaction", NO_INTERACTION))

    @property
    def used_streams(self) -> tuple[Stream, ...]:
        """The streams that the heads use, in the order of the columns."""
        return used_streams(self.method, self.streams)

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """The inputs that the heads use, in streams and in the interaction."""
        return needed_inputs(self.method, self.streams, self.interaction)

    @property
    def reads_prompts(self) -> bool:
        """Whether the heads use text prompts."""
        return "text" in self.inputs

    @property
    def reads_image_prompts(self) -> bool:
        """Whether the heads use image prompts, of the images that have one."""
        return "image-prompt" in self.inputs

    @property
    def requires_image_prompts(self) -> bool:
        """Whether the heads need an image prompt for every image."""
        return "image-prompt" in self.used_streams

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(dict.fromkeys(target for target, _ in self.heads))

    def only(self, target: str | None = None, repeat: int | None = None) -> "Model":
        """Return the model with only the heads of one target, of one repeat, or of both.

        Raises:
            ModelError: The model has no such heads.
        """
        repeats = sorted({number for _, number in self.heads})
        if target is not None and target not in self.targets:
            targets = ", ".join(self.targets)
            raise ModelError(f"{self.folder} has no heads for the target {target!r}: pass one of {targets}")
        if repeat is not None and repeat not in repeats:
            kept = ", ".join(map(str, repeats))
            raise ModelError(f"{self.folder} has no heads of repeat {repeat}: pass one of {kept}")
        heads = {}
        for key, head in self.heads.items():
            if target in (None, key[0]) and repeat in (None, key[1]):
                heads[key] = head
        return replace(self, heads=heads)

    def averaged(self, target: str | None = None, repeat: int | None = None) -> "Model":
        """Return the model as `only` does, for scores that are means over its repeats.

        Raises:
            ModelError: The model has no such heads, or their scores have several scales.
        """
        model = self.only(target, repeat)
        for name in model.targets:
            scales = {self.scales.get(key, "") for key in model.heads if key[0] == name}
            if len(scales) > 1:
                named = " and ".join(sorted(scales))
                raise ModelError(
                    f"{self.folder}: the heads for {name} have the scales of {named} in different repeats, "
                    "so their mean is on no scale: choose one with --repeat (repeat= in Python)"
                )
        return model

    def predict(self, features: FeatureSet) -> dict[HeadKey, np.ndarray]:
        """Return the predictions of every head for N rows: scores (N,) by target and repeat.

        Raises:
            FusionError: The method is full reference and a row has no image prompt.
        """
        fused = fuse(features, self.method, self.streams).X
        mean = fused.mean(axis=1) if fused.ndim == 3 else fused
        predicted = {}
        for key, head in self.heads.items():
            predicted[key] = mean_over_crops(head.predict, mean if head.averages_crops else fused)
        return predicted

    def record(self) -> ModelRecord:
        """Return everything but the tensors, as an object for JSON."""
        heads = []
        for target, repeat in self.heads:
            width = self.half_widths.get((target, repeat), np.inf)
            half_width = float(width) if isfinite(width) else None
            scale = self.scales.get((target, repeat), "")
            heads.append(HeadRecord(target, repeat, self.seeds[target, repeat], half_width, scale))
        return ModelRecord(
            format=MODEL_FORMAT,
            method=self.method,
            estimator=self.estimator,
            options=self.options,
            signatures=self.signatures,
            stages=self.stages,
            heads=tuple(heads),
            streams=self.streams,
            templates=self.templates,
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
        ModelError: The run kept no heads, or their files are damaged or have another format.
        ResultError: The run has another format.
    """
    require_current_format(folder)
    path = _record_file(folder)
    model_format = format_of(path)
    if model_format not in (None, MODEL_FORMAT):
        raise ModelError(
            f"{path} has format {model_format}, and this version of tier4k reads format {MODEL_FORMAT}: "
            f"fit the run again, or use the version that wrote {path}"
        )
    try:
        record = read_json(path, ModelRecord)
        return _restore_model(folder, record, load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, TierError) as error:
        raise ModelError(
            f"{folder} has no readable heads ({path.name}: {described(error)}): "
            "fit the run again with --models all"
        ) from error


def _record_file(folder: Path) -> Path:
    belongs_to_run = is_run(folder) or (folder / MODEL_FILE).is_file()
    path = folder / (MODEL_FILE if belongs_to_run else EXPORTED_FILE)
    if path.is_file():
        return path
    problem = "is not the folder of a run"
    if belongs_to_run:
        problem = (
            "kept no fitted heads (runs of `tier sweep --search` and of `tier score` have none; "
            "to evaluate a scorer on other data, run `tier score DATA`)"
        )
    raise ModelError(
        f"{folder} {problem}: pass a run that was fitted with --models all or first, for example runs/ID"
    )


def _restore_model(
    folder: Path,
    record: ModelRecord,
    tensors: Mapping[str, np.ndarray],
) -> Model:
    _require_encoders(record)
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
        streams=record.streams,
        templates=record.templates,
    )
    for head in record.heads:
        key = (head.target, head.repeat)
        weights = dict(_tensors_with_prefix(tensors, f"{head.target}/{head.repeat}/"))
        model.heads[key] = restore_head(record.estimator, weights, record.options, head.seed)
        model.seeds[key] = head.seed
        if head.half_width is not None:
            model.half_widths[key] = head.half_width
        if head.scale:
            model.scales[key] = head.scale
    return model


def _require_encoders(record: ModelRecord) -> None:
    """Refuse a record that lacks the encoder of a stream."""
    available = {signature.stream for signature in record.signatures.values()}
    missing = [kind for kind in encoder_kinds(record.method, record.streams) if kind not in available]
    if missing:
        raise ValueError(f"`$.signatures` lacks {' and '.join(missing)}")


def _tensors_with_prefix(tensors: Mapping[str, np.ndarray], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in tensors.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), values


def score_table(
    names: Sequence[str],
    predicted: Mapping[HeadKey, np.ndarray],
    half_widths: Mapping[HeadKey, float],
) -> pd.DataFrame:
    """Return a table with one line for each image and target: name, target, score, low, high, spread.

    `score` is the mean over the heads of all repeats and `spread` their standard deviation (NaN for one
    head). The half-width of the interval low … high is the mean of the half-widths of the heads, because the
    absolute error of the mean is at most the mean of the absolute errors; it is NaN if a head has no
    half-width.

    Args:
        names: Names of the N images.
        predicted: Scores (N,) by target and repeat.
        half_widths: Half-widths of the conformal intervals by target and repeat.
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
