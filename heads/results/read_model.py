"""Read fitted heads. Reading executes no code of other packages that the user does not trust by name."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tier4k.cache.errors import TierError
from tier4k.extract.plugins.find import PluginError
from tier4k.extract.plugins.identity import Plugin, require_unchanged
from tier4k.heads.data.fusion import encoder_kinds
from tier4k.heads.regressors.base import BaseHead, Head
from tier4k.heads.regressors.estimator_head import EstimatorHead
from tier4k.heads.regressors.own_heads import trusted_class
from tier4k.heads.regressors.registry import HEADS, require_head_options, restore_head
from tier4k.heads.results.estimators import EstimatorError, digest, load_estimator, refusal
from tier4k.heads.results.json_files import read_json
from tier4k.heads.results.layout import (
    MODEL_FILE,
    WEIGHTS_FILE,
    described,
    estimator_file,
    format_of,
    require_current_format,
)
from tier4k.heads.results.model import (
    MODEL_FORMAT,
    HeadRecord,
    Model,
    ModelError,
    ModelRecord,
    record_file,
    trust_name,
)


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
