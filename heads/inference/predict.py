"""`predict`: new pictures through the same stage 1 as those of training, then through the heads."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import TierError
from tier4k.cache.keys import key_array
from tier4k.cache.signature import Signature
from tier4k.cache.store import SIGNATURE_FILE, FeatureStore, writing
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.weights import search_folders
from tier4k.extract.pipeline.listener import Listener, StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.encoders.finetuned import record_seen
from tier4k.heads.encoders.sources import Source, beside_training
from tier4k.heads.results.config import ZERO_SHOT_METHOD
from tier4k.heads.results.files import read_config
from tier4k.heads.results.model import HeadKey

SUFFIXES = (".csv", ".jsonl", ".json")


class PredictionError(TierError):
    """Predictions that cannot be made or written."""


def require_image_prompts(manifest: Manifest, method: str) -> None:
    """Raise FusionError before anything is encoded where full reference lacks an image prompt."""
    without = manifest.table.loc[manifest.table["image_prompt_key"] == "", "name"]
    if method == "fr" and len(without):
        raise FusionError(
            f"these heads are full reference (fr) and need an image prompt for every picture; {len(without)} of {len(manifest)} have none, "
            f"first {without.iloc[0]}: give --image-prompt FILE, a table with the column image_prompt, or a run of --method pr or nr"
        )


def predict(
    sources: Sequence[Source], manifest: Manifest, root: Path, options: ExtractionOptions, listener: Listener
) -> tuple[dict[HeadKey, np.ndarray], list[StreamSummary]]:
    """What every head predicts for every row; only what the stores do not hold is encoded.

    Args:
        sources: Heads with their encoders.
        manifest: The rows.
        root: Folder of stores.
        options, listener: As for extraction.

    Returns:
        Scores (N,) by target and repeat, and what was encoded.

    Raises:
        TierError: An image prompt or weights are missing, or something cannot be encoded.
    """
    predicted: dict[HeadKey, np.ndarray] = {}
    summaries: list[StreamSummary] = []
    for source in sources:
        require_image_prompts(manifest, source.model.method)
        summaries += _encode(source, manifest, root, options, listener)
        images, texts = (_store(root, source.model.signatures[stream]) for stream in ("image", "text"))
        predicted |= source.model.predict(load_features(manifest, images, texts, source.model.stages))
    return predicted, summaries


def is_zero_shot(run: Path) -> bool:
    """Whether a folder is a run of `tier score`, which has a scorer and no heads."""
    return (run / "results.json").is_file() and read_config(run)["method"] == ZERO_SHOT_METHOD


def predict_zero_shot(
    run: Path,
    manifest: Manifest,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    weights: Path | None = None,
) -> tuple[dict[HeadKey, np.ndarray], list[StreamSummary]]:
    """What the scorer of a run of `tier score` gives every row; only pairs that the store does not hold are scored.

    Args:
        run: Its folder.
        manifest: The rows.
        root: Folder of stores.
        options, listener: As for extraction.
        weights: Of the scorer, given by the user.

    Returns:
        Scores (N,), the scorer standing for target and repeat 0, and what was scored.

    Raises:
        TierError: Weights are missing or others, or something cannot be scored.
    """
    signature = Signature.from_dict(read_config(run)["signatures"]["score"])
    keys, summaries = key_array(map(bytes.fromhex, manifest.pair_keys())), []
    if not _holds(root, signature, keys):
        scorer = scorer_of(signature, weights, [*search_folders(manifest.data), *beside_training(run)])
        summaries = extract(manifest, [scorer], root, options, listener)
    return {(signature.encoder, 0): _store(root, signature).read(keys)[:, 0].astype(float)}, summaries


def _encode(
    source: Source, manifest: Manifest, root: Path, options: ExtractionOptions, listener: Listener
) -> list[StreamSummary]:
    # Weights are asked for only where something is to be encoded.
    encoders: list[ImageEncoder | TextEncoder] = []
    signatures = source.model.signatures
    if not _holds(
        root, signatures["image"], np.concatenate([manifest.keys("image"), manifest.keys("image_prompt")])
    ):
        encoders.append(source.image)
    if not _holds(root, signatures["text"], manifest.keys("prompt")):
        encoders.append(source.text)
    if not encoders:
        return []
    for encoder in encoders:
        if encoder.signature.stream in source.seen:
            record_seen(root, encoder, source.seen[encoder.signature.stream])
    return extract(manifest, encoders, root, options, listener)


def _store(root: Path, signature: Signature) -> FeatureStore:
    return FeatureStore.open(root / signature.folder_name)


def _holds(root: Path, signature: Signature, keys: np.ndarray) -> bool:
    there = (root / signature.folder_name / SIGNATURE_FILE).is_file()
    return there and bool(_store(root, signature).holds(keys).all())


def write_scores(table: pd.DataFrame, output: Path) -> None:
    """Write a table of scores as .csv, .jsonl (an object a line) or .json (a list of objects); NaN is empty or null.

    Raises:
        PredictionError: The name has another ending.
        StoreError: The file cannot be written.
    """
    require_suffix(output, SUFFIXES, PredictionError)
    with writing(output):
        publish(output, lambda path: _write(table, path))


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix.lower() == ".csv":
        table.to_csv(path, index=False)
        return
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    if path.suffix.lower() == ".json":
        text = json.dumps(records, indent=1, ensure_ascii=False)
    else:
        text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text(text + "\n", encoding="utf-8")
