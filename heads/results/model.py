"""Write and read fitted heads: tensors as safetensors, everything else as JSON. Loading executes no code.

The estimators of users' heads are files of skops (see `estimators.py`). Code of other packages is executed
only where the user trusts it by name.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.plugins.find import PluginError
from tier4k.extract.plugins.identity import Plugin, identify, require_unchanged
from tier4k.extract.scorers.called import depends_on_prompts
from tier4k.heads.data.choices import Method
from tier4k.heads.data.encoder_names import score_signatures
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import encoder_kinds, fuse, needed_inputs, used_streams
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.evaluation.trial import mean_over_crops
from tier4k.heads.regressors.base import BaseHead, Head
from tier4k.heads.regressors.estimator_head import EstimatorHead, foreign_errors
from tier4k.heads.regressors.own_heads import trusted_class
from tier4k.heads.regressors.registry import HEADS, require_head_options, restore_head
from tier4k.heads.results.estimators import (
    EstimatorError,
    digest,
    load_estimator,
    refusal,
    saved_estimator,
    untrusted_types,
)
from tier4k.heads.results.json_files import read_json, write_json
from tier4k.heads.results.layout import (
    MODEL_FILE,
    WEIGHTS_FILE,
    described,
    estimator_file,
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


def heads_note(folder: Path) -> str:
    """Return what a user should know of the kept heads of a run; "" for heads of tier4k and without heads."""
    path = folder / MODEL_FILE
    if not path.is_file():
        return ""
    record = read_json(path, ModelRecord)
    if record.unsaved:
        return f"The run keeps its predictions and no heads: {record.unsaved}."
    if record.trust:
        return f"To use the heads later: {refusal(record.trust)}."
    return ""


def read_model(folder: Path, trusted: Collection[str] = ()) -> Model:
    """Read the heads of a run, or of an exported model; no code of other packages is executed unasked.

    Args:
        folder: Folder of the run or of the exported model.
        trusted: Names of types of other packages that may be imported and made, such as
            "my_package.heads.Forest" (or "my_package.heads:Forest").

    Raises:
        ModelError: The run kept no heads, their files are damaged or have another format, or a type in them
            is not trusted, cannot be imported, or is not the code that the heads were fitted with.
        ResultError: The run has another format.
    """
    require_current_format(folder)
    path = record_file(folder)
    model_format = format_of(path)
    if model_format not in (None, MODEL_FORMAT):
        raise ModelError(
            f"{path} has format {model_format}, and this version of tier4k reads format {MODEL_FORMAT}: "
            f"fit the run again, or use the version that wrote {path}"
        )
    try:
        record = read_json(path, ModelRecord)
        names = set(map(trust_name, trusted))
        _require_usable(folder, record, names)
        return _restore_model(folder, record, load_file(folder / WEIGHTS_FILE), names)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, TierError) as error:
        raise ModelError(
            f"{folder} has no readable heads ({path.name}: {described(error)}): "
            "fit the run again with --models all"
        ) from error


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


def _require_usable(
    folder: Path,
    record: ModelRecord,
    trusted: set[str],
) -> None:
    """Refuse a record without heads, and heads whose code the user does not trust or has changed."""
    if record.unsaved:
        raise ModelError(
            f"{folder} keeps its predictions and no heads, because {record.unsaved}: use its "
            "predictions.csv, or fit a head that can be saved"
        )
    if record.head_class and trust_name(record.head_class) not in trusted:
        raise ModelError(f"{folder}: {refusal([trust_name(record.head_class)])}")
    if trusted.issuperset(record.trust):  # else nothing is imported: the estimators are refused
        _require_unchanged(folder, record.code, record.trust)


def _require_unchanged(
    folder: Path,
    code: Iterable[Plugin],
    used: Iterable[str],
) -> None:
    """Import the code that the heads use, and refuse another than they were fitted with."""
    recorded = {trust_name(plugin.path): plugin for plugin in code}
    for name in used:
        if name not in recorded:
            raise ModelError(
                f"{folder} does not record which version of {name} it was fitted with: fit again"
            )
        try:
            require_unchanged(recorded[name])
        except PluginError as error:
            raise ModelError(f"{folder}: {error}") from error


def _restore_model(
    folder: Path,
    record: ModelRecord,
    tensors: Mapping[str, np.ndarray],
    trusted: Collection[str],
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
        head_class=record.head_class,
        trust=record.trust,
        code=record.code,
    )
    for head in record.heads:
        key = (head.target, head.repeat)
        weights = dict(_tensors_with_prefix(tensors, f"{head.target}/{head.repeat}/"))
        model.heads[key] = _restore_head(folder, record, head, weights, trusted)
        model.seeds[key] = head.seed
        if head.half_width is not None:
            model.half_widths[key] = head.half_width
        if head.scale:
            model.scales[key] = head.scale
    return model


def _restore_head(
    folder: Path,
    record: ModelRecord,
    head: HeadRecord,
    weights: Mapping[str, np.ndarray],
    trusted: Collection[str],
) -> Head:
    if record.head_class:
        return trusted_class(record.head_class).restore(weights, record.options, head.seed)
    if record.estimator in HEADS:
        return restore_head(record.estimator, weights, record.options, head.seed)
    path = estimator_file(folder, head.target, head.repeat)
    content = path.read_bytes()
    if digest(content) != head.estimator:
        raise ValueError(f"{path} is not the file that the run wrote")
    try:
        estimator = load_estimator(content, trusted)
    except EstimatorError as error:
        raise ModelError(f"{folder}: {error}") from error
    options = {name: str(record.options[name]) for name in BaseHead.limits}
    return EstimatorHead.from_weights(weights, name=record.estimator, estimator=estimator, **options)


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
