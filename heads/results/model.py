"""Fitted heads, and their files: tensors as safetensors, everything else as JSON.

The estimators of users' heads are files of skops (see `estimators.py`). Code of other packages is executed
only where the user trusts it by name.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.plugins.find import PluginError
from tier4k.extract.plugins.identity import Plugin, identify
from tier4k.extract.scorers.called import depends_on_prompts
from tier4k.heads.data.choices import Method
from tier4k.heads.data.encoder_names import score_signatures
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse, needed_inputs, used_streams
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.evaluation.trial import mean_over_crops
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.estimator_head import EstimatorHead, foreign_errors
from tier4k.heads.results.estimators import (
    EstimatorError,
    digest,
    saved_estimator,
    untrusted_types,
)
from tier4k.heads.results.json_files import write_json
from tier4k.heads.results.layout import (
    MODEL_FILE,
    WEIGHTS_FILE,
    estimator_file,
    is_run,
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
        estimator: SHA-256 of the file of its estimator (`estimator_file`); "" for heads made of tensors.
    """

    target: str
    repeat: int
    seed: int
    half_width: float | None
    scale: str = ""
    estimator: str = ""


@dataclass(frozen=True)
class ModelRecord:
    """Content of model.json, and of config.json of an exported model: everything but the tensors.

    Attributes:
        format: `MODEL_FORMAT`.
        method, estimator, options, signatures, stages, streams, templates: See `Model`.
        heads: Records of the heads.
        head_class: See `Model`.
        trust: Names of the types of other packages in the files of estimators, and of `head_class`.
        code: What each of these was when the heads were fitted.
        unsaved: Why there are no heads; "" where they are kept.
    """

    format: int
    method: Method
    estimator: str
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: tuple[HeadRecord, ...]
    streams: tuple[Stream, ...] = ()
    templates: tuple[str, ...] = ()
    head_class: str = ""
    trust: tuple[str, ...] = ()
    code: tuple[Plugin, ...] = ()
    unsaved: str = ""


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
        head_class: Import path of the class of the heads, if a user's package defines it; else "".
        trust: Names of the types of other packages that the files of the heads contain.
        code: What is known of the code of these types: of a model that was read, of each of them.
    """

    folder: Path
    method: Method
    estimator: str
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: dict[HeadKey, Head]
    seeds: dict[HeadKey, int]
    half_widths: dict[HeadKey, float]
    scales: dict[HeadKey, str] = field(default_factory=dict)
    streams: tuple[Stream, ...] = ()
    templates: tuple[str, ...] = ()
    head_class: str = ""
    trust: tuple[str, ...] = ()
    code: tuple[Plugin, ...] = ()

    @property
    def is_exported(self) -> bool:
        """Whether this is an exported model, whose encoders are files of its own."""
        return record_file(self.folder).name == EXPORTED_FILE

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
        """The inputs that the heads use, in streams, in the interaction and in scores that are features."""
        needed = set(needed_inputs(self.method, self.streams, self.interaction))
        for signature in score_signatures(self.signatures).values():
            needed.add("image")
            if depends_on_prompts(signature):
                needed.add("text")
        return tuple(stream for stream in STREAMS if stream in needed)

    @property
    def content(self) -> tuple[Stream, ...]:
        """The inputs on which predictions may depend: the used ones, and pairs where scores are features."""
        pairs = {"image", "text"} if score_signatures(self.signatures) else set()
        return tuple(stream for stream in STREAMS if stream in {*self.inputs, *pairs})

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
            ModelError: The features are not as long as those that the heads were fitted on.
        """
        fused = fuse(features, self.method, self.streams).X
        self.require_width(fused.shape[-1])
        mean = fused.mean(axis=1) if fused.ndim == 3 else fused
        predicted = {}
        for key, head in self.heads.items():
            # The class may be a user's; estimators convert their errors themselves.
            with foreign_errors(self.estimator, "predict") if self.head_class else nullcontext():
                predicted[key] = mean_over_crops(head.predict, mean if head.averages_crops else fused)
        return predicted

    def require_width(self, width: int) -> None:
        """Refuse rows of another length than those that the heads were fitted on.

        Raises:
            ModelError: The lengths differ.
        """
        for head in self.heads.values():
            fitted = getattr(head, "n_features_in_", width)
            if fitted != width:
                raise ModelError(
                    f"the heads of {self.folder} were fitted on {fitted} features of each row, and there are "
                    f"{width}: an encoder in code changed under the same version. Take the former, or raise "
                    "the version, extract and fit again"
                )

    def record(self) -> ModelRecord:
        """Return everything but the tensors and the estimators, as an object for JSON."""
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
            head_class=self.head_class,
            trust=(trust_name(self.head_class),) if self.head_class else (),
        )

    def write(self, record_file: str = MODEL_FILE) -> None:
        """Write the record, the tensors and the estimators into the folder.

        Where an estimator cannot be saved, the record says so, and no head is written.
        """
        try:
            record = self._write_estimators(self.record())
        except (EstimatorError, PluginError) as error:
            write_json(self.folder / record_file, replace(self.record(), heads=(), unsaved=str(error)))
            return
        tensors = {}
        for (target, repeat), head in self.heads.items():
            for name, values in head.weights_.items():
                tensors[f"{target}/{repeat}/{name}"] = np.ascontiguousarray(values)
        save_file(tensors, self.folder / WEIGHTS_FILE)
        write_json(self.folder / record_file, record)

    def _write_estimators(self, record: ModelRecord) -> ModelRecord:
        """Write a file for each estimator, and return the record with their digests and foreign code."""
        contents = {}
        for key, head in self.heads.items():
            if isinstance(head, EstimatorHead):
                contents[key] = saved_estimator(head.estimator_)
        trust = set(record.trust)
        for content in contents.values():
            trust |= set(untrusted_types(content))
        code = tuple(identify(name, self.code) for name in sorted(trust))
        heads = []
        for head_record in record.heads:
            key = (head_record.target, head_record.repeat)
            if key in contents:
                path = estimator_file(self.folder, *key)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(contents[key])
                head_record = replace(head_record, estimator=digest(contents[key]))
            heads.append(head_record)
        return replace(record, heads=tuple(heads), trust=tuple(sorted(trust)), code=code)


def trust_name(path: str) -> str:
    """Return the name by which a user trusts the class with an import path."""
    return path.replace(":", ".")


def record_file(folder: Path) -> Path:
    """Return the file with everything of a model but its tensors.

    Raises:
        ModelError: The folder is neither a run that kept its heads nor an exported model.
    """
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
