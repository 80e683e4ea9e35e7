"""Score new images: encode them as in training, then predict with the heads of a run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import TierError
from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import SIGNATURE_FILE, Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.inputs import LeftOut
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.pipeline.listener import Listener, StreamSummary
from tier4k.extract.pipeline.missing_inputs import InputChoice
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.extract.weights.files import search_folders
from tier4k.heads.data.encoder_names import stream_signatures
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.encoders.sources import EncoderSource, beside_training
from tier4k.heads.results.config import ZERO_SHOT_METHOD
from tier4k.heads.results.layout import is_run
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.read import read_config


class PredictionError(TierError):
    """Scores cannot be written."""


def predict(
    sources: Sequence[EncoderSource],
    manifest: Manifest,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
) -> tuple[dict[HeadKey, np.ndarray], list[StreamSummary]]:
    """Return the scores of every head for every row; encode only inputs that are in no store.

    Args:
        sources: Heads with their encoders.
        manifest: Data set with the N rows to score.
        root: Folder of stores.
        options: Options of the extraction.
        listener: Receives the progress of the extraction.

    Returns:
        Scores (N,) by target and repeat, and a summary for each encoder that ran.

    Raises:
        FusionError: The heads need image prompts, and a row has no image prompt.
        TierError: Weights are missing, or an input cannot be encoded.
    """
    predicted: dict[HeadKey, np.ndarray] = {}
    summaries: list[StreamSummary] = []
    for source in sources:
        model = source.model
        require_image_prompts(manifest, model)
        summaries += _encode(source, manifest, root, options, listener)
        stores = FeatureStores.of(_stores(model, "image", root), _stores(model, "text", root))
        features = load_features(
            manifest, stores, model.stages, model.interaction, model.templates, model.inputs
        )
        predicted |= model.predict(features)
    return predicted, summaries


def require_image_prompts(manifest: Manifest, model: Model) -> None:
    """Refuse rows without an image prompt for heads that need it, before anything is encoded.

    Raises:
        FusionError: The heads have the stream "image-prompt" and a row has no image prompt.
    """
    if not model.requires_image_prompts:
        return
    rows_without = manifest.table.loc[manifest.table["image_prompt_key"] == "", "name"]
    if rows_without.empty:
        return
    raise FusionError(
        "the heads are full reference (fr) and need an image prompt for every image; "
        f"{len(rows_without)} of {len(manifest)} rows have none, first {rows_without.iloc[0]}: pass "
        "--image-prompt FILE, or a table with the column image_prompt, or use a run of --method pr or nr"
    )


def is_zero_shot(run: Path) -> bool:
    """Return whether a folder is a run of `tier score`, which has a scorer and no heads.

    Raises:
        ResultError: The folder is a run whose files cannot be read.
    """
    return is_run(run) and read_config(run).method == ZERO_SHOT_METHOD


def predict_zero_shot(
    run: Path,
    manifest: Manifest,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    weights: Path | None = None,
) -> tuple[dict[HeadKey, np.ndarray], list[StreamSummary]]:
    """Return the score of a published scorer for every row; compute only scores that are in no store.

    Args:
        run: Folder of a run of `tier score`.
        manifest: Data set with the N rows to score.
        root: Folder of stores.
        options: Options of the extraction.
        listener: Receives the progress of the extraction.
        weights: Weights of the scorer; None searches for them.

    Returns:
        Scores (N,) by the scorer's name and repeat 0, and a summary of the scored pairs.

    Raises:
        TierError: The weights are missing or differ from those of the run, or a pair cannot be scored.
    """
    signature = _scorer_signature(run)
    keys = key_array(map(bytes.fromhex, manifest.pair_keys()))
    summaries: list[StreamSummary] = []
    if not _has_all_keys(root, signature, keys):
        folders = [*search_folders(manifest.data), *beside_training(run)]
        scorer = scorer_of(signature, weights, folders)
        summaries = extract(manifest, [scorer], root, options, listener)
    scores = _store(root, signature).read(keys)[:, 0].astype(float)
    return {(signature.encoder, 0): scores}, summaries


def _scorer_signature(run: Path) -> Signature:
    return read_config(run).signatures["score"]


def _encode(
    source: EncoderSource,
    manifest: Manifest,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
) -> list[StreamSummary]:
    """Encode missing inputs and templates. If none is missing, encoders and weights are not searched."""
    templates = _templates(source)
    inputs = source.model.inputs
    columns = [stream.replace("-", "_") for stream in inputs if stream != "text"]
    image_keys = [manifest.keys(column) for column in columns]
    encoders: list[ImageEncoder | TextEncoder] = []
    for name, signature in stream_signatures(source.model.signatures, "image").items():
        if not all(_has_all_keys(root, signature, keys) for keys in image_keys):
            encoders.append(source.find_images[name]())
    for name, signature in stream_signatures(source.model.signatures, "text").items():
        text_keys = key_array(map(text_key, templates.get(signature, ())))
        if "text" in inputs:
            text_keys = np.concatenate([manifest.keys("prompt"), text_keys])
        if not _has_all_keys(root, signature, text_keys):
            encoders.append(source.find_texts[name]())
    if not encoders:
        return []
    choice = InputChoice(inputs, templates)
    return extract(manifest, encoders, root, options, listener, choice=choice)


def _templates(source: EncoderSource) -> dict[Signature, tuple[str, ...]]:
    """Return the templates of the heads, by the signature of the text tower; empty without templates."""
    model, towers = source.model, source.towers
    if not model.templates or towers is None or towers.text is None:
        return {}
    return {stream_signatures(model.signatures, "text")[towers.text]: model.templates}


def _stores(model: Model, kind: str, root: Path) -> list[FeatureStore]:
    return [_store(root, signature) for signature in stream_signatures(model.signatures, kind).values()]


def _store(root: Path, signature: Signature) -> FeatureStore:
    return FeatureStore.open(root / signature.folder_name)


def _has_all_keys(
    root: Path,
    signature: Signature,
    keys: np.ndarray,
) -> bool:
    if not (root / signature.folder_name / SIGNATURE_FILE).is_file():
        return False
    return bool(_store(root, signature).holds(keys).all())


def require_score_suffix(output: Path) -> None:
    """Refuse an output file of unknown format, before any work.

    Raises:
        PredictionError: The name does not end in .csv, .jsonl or .json.
    """
    require_suffix(output, tuple(WRITERS), PredictionError)


def with_left_out(table: pd.DataFrame, left_out: Sequence[LeftOut]) -> pd.DataFrame:
    """Return scores with a line for each target of each image that was left out: NaN, and the `reason`.

    Args:
        table: Scores as returned by `tier4k.heads.results.model.score_table`.
        left_out: Images without scores; the table stays as it is if there are none.
    """
    if not left_out:
        return table
    lines = []
    for image in left_out:
        for target in table["target"].unique():
            lines.append({"name": image.name, "target": target, "reason": image.reason})
    scored = table.assign(reason=None)
    return pd.concat([scored, pd.DataFrame(lines).reindex(columns=scored.columns)], ignore_index=True)


def write_scores(table: pd.DataFrame, output: Path) -> None:
    """Write scores as .csv, .jsonl (one object a line) or .json (a list of objects); NaN is empty or null.

    Args:
        table: Scores as returned by `tier4k.heads.results.model.score_table`.
        output: File to write.

    Raises:
        PredictionError: The name has another suffix.
        StoreError: The file cannot be written.
    """
    require_score_suffix(output)
    write = WRITERS[output.suffix]
    with explain_write_errors(output):
        publish(output, lambda path: write(table, path))


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _write_json(table: pd.DataFrame, path: Path) -> None:
    text = json.dumps(_records(table), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_json_lines(table: pd.DataFrame, path: Path) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in _records(table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".json": _write_json,
}
