"""Encode new images as in training, and predict with the heads of a run."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import SIGNATURE_FILE, Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.text import shown
from tier4k.extract.datasets.choices import OnError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.inputs.dataset import NONE, DatasetInputs
from tier4k.extract.pipeline.listener import Listener, StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.unreadable import require_all_encoded
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.extract.scorers.given_scores import is_given
from tier4k.heads.data.encoder_names import score_signatures, stream_signatures
from tier4k.heads.data.features import RowKeys
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.encoders.sources import EncoderSource, beside_training
from tier4k.heads.inference.row_scorers import StoredHeads
from tier4k.heads.results.config import ZERO_SHOT_METHOD
from tier4k.heads.results.layout import is_run
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.read import read_config

EXPORTED = "exported"  # folder in a folder of stores


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
    summaries = encode_for_heads(sources, DatasetInputs.of(manifest), root, options, listener)
    heads = StoredHeads([source.model for source in sources], root)
    return heads.predict_stored(RowKeys.of(manifest)), summaries


def stores_for(model: Model, features: Path) -> Path:
    """Return the folder of the stores that a model's encoders fill.

    The weights of an exported model are files with other digests. Beside the features of the original files,
    theirs would be second stores that no option tells apart.
    """
    return features / EXPORTED if model.is_exported else features


def encode_for_heads(
    sources: Sequence[EncoderSource],
    dataset: DatasetInputs,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    on_error: OnError = "stop",
) -> list[StreamSummary]:
    """Encode what heads need of the rows of a data set and is in no store.

    Args:
        sources: Heads with their encoders.
        dataset: Inputs of the rows to score.
        root: Folder of stores.
        options: Options of the extraction.
        listener: Receives the progress of the extraction.
        on_error: Whether images that cannot be read are an error, once all others are stored.

    Returns:
        A summary for each encoder that ran.

    Raises:
        FusionError: The heads need image prompts, and a row has no image prompt.
        TierError: Weights are missing, or an input cannot be encoded.
    """
    summaries: list[StreamSummary] = []
    for source in sources:
        require_image_prompts(dataset, source.model)
        summaries += _encode(source, dataset, root, options, listener, on_error)
    require_all_encoded(summaries, on_error)
    return summaries


def require_image_prompts(dataset: DatasetInputs, model: Model) -> None:
    """Refuse rows without an image prompt for heads that need it, before anything is encoded.

    Raises:
        FusionError: The heads have the stream "image-prompt" and a row has no image prompt.
    """
    if not model.requires_image_prompts:
        return
    rows_without = np.flatnonzero(dataset.rows.image_prompt == NONE)
    if not len(rows_without):
        return
    (first,) = dataset.images.texts(dataset.rows.image[rows_without[:1]])
    raise FusionError(
        "the heads are full reference (fr) and need an image prompt for every image; "
        f"{len(rows_without):,} of {len(dataset.rows):,} rows have none, first {shown(first)}: pass "
        "--image-prompt FILE, or a table with the column image_prompt, or use a run of --method pr or nr"
    )


def is_zero_shot(run: Path) -> bool:
    """Return whether a folder is a run of `tier score`, which has a scorer and no heads.

    Raises:
        ResultError: The folder is a run whose files cannot be read.
    """
    return is_run(run) and read_config(run).method == ZERO_SHOT_METHOD


def encode_pairs(
    run: Path,
    dataset: DatasetInputs,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    weights: Path | None = None,
    beside: Sequence[Path] = (),
    on_error: OnError = "stop",
    trusted: Collection[str] = (),
) -> list[StreamSummary]:
    """Compute the scores of a scorer that are in no store.

    Args:
        run: Folder of a run of `tier score`.
        dataset: Inputs of the rows to score.
        root: Folder of stores.
        options: Options of the extraction.
        listener: Receives the progress of the extraction.
        weights: Weights of the scorer; None searches for them.
        beside: Folders that may contain `pretrained/`, besides those of the run.
        on_error: Whether images that cannot be read are an error, once all other scores are stored.
        trusted: Import paths of scorers that the run names and the user trusts.

    Returns:
        A summary of the scored pairs; none if all scores were stored.

    Raises:
        TierError: The weights are missing or differ from those of the run, or a pair cannot be scored.
    """
    signature = scorer_signature(run)
    if _has_all_keys(root, signature, dataset.pairs.keys):
        return []
    scorer = scorer_of(signature, weights, [*beside, *beside_training(run)], trusted)
    summaries = extract(dataset, [scorer], root, options, listener)
    require_all_encoded(summaries, on_error)
    return summaries


def scorer_signature(run: Path) -> Signature:
    """Return the signature of the scores of a run of `tier score`."""
    return read_config(run).signatures["score"]


def _encode(
    source: EncoderSource,
    dataset: DatasetInputs,
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    on_error: OnError,
) -> list[StreamSummary]:
    """Encode missing inputs and templates. If none is missing, encoders and weights are not searched."""
    templates = _templates(source)
    inputs = source.model.inputs
    image_keys = dataset.images_of(inputs).keys
    encoders: list[Encoder] = []
    for name, signature in stream_signatures(source.model.signatures, "image").items():
        if not _has_all_keys(root, signature, image_keys):
            encoders.append(source.find_images[name]())
    for name, signature in stream_signatures(source.model.signatures, "text").items():
        text_keys = key_array(map(text_key, templates.get(signature, ())))
        if "text" in inputs:
            text_keys = np.concatenate([dataset.prompts.keys, text_keys])
        if not _has_all_keys(root, signature, text_keys):
            encoders.append(source.find_texts[name]())
    for name, signature in score_signatures(source.model.signatures).items():
        held = _held(root, signature, dataset.pairs.keys)
        are_left_out = is_given(signature) and on_error == "skip" and held.any()
        if not held.all() and not are_left_out:
            encoders.append(source.find_scorers[name]())
    if not encoders:
        return []
    return extract(dataset, encoders, root, options, listener, choice=InputChoice(inputs, templates))


def _templates(source: EncoderSource) -> dict[Signature, tuple[str, ...]]:
    """Return the templates of the heads, by the signature of the text tower; empty without templates."""
    model, towers = source.model, source.towers
    if not model.templates or towers is None or towers.text is None:
        return {}
    return {stream_signatures(model.signatures, "text")[towers.text]: model.templates}


def _has_all_keys(
    root: Path,
    signature: Signature,
    keys: np.ndarray,
) -> bool:
    return bool(_held(root, signature, keys).all())


def _held(
    root: Path,
    signature: Signature,
    keys: np.ndarray,
) -> np.ndarray:
    """Return which keys (N, 32) the store of a signature contains (N,); none if there is no store."""
    if not (root / signature.folder_name / SIGNATURE_FILE).is_file():
        return np.zeros(len(keys), bool)
    return FeatureStore.open(root / signature.folder_name).holds(keys)
