"""What scores rows from stores: heads on stored features, and published scorers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import Stream
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.pixels import read_pixels
from tier4k.extract.scorers.given_scores import is_given
from tier4k.heads.data.encoder_names import score_signatures, stream_signatures
from tier4k.heads.data.features import FeatureReader, RowKeys, unrated_rows
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.score_rows import Predicted
from tier4k.heads.inference.scores import summary_of_models, summary_of_scorer
from tier4k.heads.results.model import HeadKey, Model

BYTES_AT_ONCE = 2**27  # of stored features

ROWS_AT_ONCE = 2**14

NOT_ENCODED = "its features are not stored: run the same command again, which encodes it"


class StoredHeads:
    """Heads that score rows whose features are stored.

    Args:
        models: Models, which share no head; the features of each are in its own stores.
        root: Folder of stores.

    Raises:
        TierError: A store does not exist or lacks what an interaction needs.
    """

    def __init__(self, models: Sequence[Model], root: Path) -> None:
        self._models = models
        self._readers = [_reader(model, root) for model in models]
        self.summary = summary_of_models(models)
        self.inputs = models[0].content
        self._not_stored = _not_stored(models[0])
        largest_row = max(1, *[reader.row_bytes for reader in self._readers])
        self.rows_at_once = max(1, min(BYTES_AT_ONCE // largest_row, ROWS_AT_ONCE))

    def predict(self, rows: KeyedRows) -> Predicted:
        """Return the predictions of all heads for rows without problems.

        Raises:
            FusionError: The method is full reference and a row has no image prompt.
            ShardError: A shard is damaged.
        """
        holds = np.ones(len(rows), bool)
        for reader in self._readers:
            holds &= reader.holds(rows.keys)
        values = {key: np.full(len(rows), np.nan) for key in self.summary.heads}
        if holds.any():
            for key, predicted in self.predict_stored(rows.keys.take(holds)).items():
                values[key][holds] = predicted
        return Predicted(values, _reasons(rows, ~holds, self.inputs, self._not_stored))

    def predict_stored(self, keys: RowKeys) -> dict[HeadKey, np.ndarray]:
        """Return the predictions (N,) of each head for rows whose features are stored, given their keys.

        Raises:
            FusionError: The method is full reference and a row has no image prompt.
            StoreError: Some features are not stored.
            ShardError: A shard is damaged.
        """
        parts: dict[HeadKey, list[np.ndarray]] = {key: [] for key in self.summary.heads}
        for start in range(0, len(keys), self.rows_at_once):
            part = keys.take(slice(start, start + self.rows_at_once))
            for model, reader in zip(self._models, self._readers, strict=True):
                features = reader.read(part, unrated_rows(part.has_image_prompt))
                for key, predicted in model.predict(features).items():
                    parts[key].append(predicted)
        return {key: np.concatenate(predicted) for key, predicted in parts.items()}


class StoredPairScores:
    """A published scorer whose scores of pairs are stored.

    Args:
        signature: Signature of the scores.
        root: Folder of stores.

    Raises:
        StoreError: There is no such store.
    """

    inputs: tuple[Stream, ...] = ("image", "text")

    def __init__(self, signature: Signature, root: Path) -> None:
        self._store = FeatureStore.open(root / signature.folder_name)
        self.summary = summary_of_scorer(signature)
        self.rows_at_once = ROWS_AT_ONCE

    def predict(self, rows: KeyedRows) -> Predicted:
        """Return the stored scores of rows without problems.

        Raises:
            ShardError: A shard is damaged.
        """
        keys = rows.keys.pairs
        holds = self._store.holds(keys)
        values = np.full(len(rows), np.nan)
        if holds.any():
            values[holds] = self._store.read(keys[holds])[:, 0]
        (head,) = self.summary.heads
        return Predicted({head: values}, _reasons(rows, ~holds, self.inputs, NOT_ENCODED))


def _reader(model: Model, root: Path) -> FeatureReader:
    scores = [
        FeatureStore.open(root / one.folder_name) for one in score_signatures(model.signatures).values()
    ]
    stores = FeatureStores.of(_stores(model, "image", root), _stores(model, "text", root), scores)
    return FeatureReader(stores, model.stages, model.interaction, model.templates, model.inputs)


def _stores(model: Model, kind: str, root: Path) -> list[FeatureStore]:
    signatures = stream_signatures(model.signatures, kind).values()
    return [FeatureStore.open(root / signature.folder_name) for signature in signatures]


def _not_stored(model: Model) -> str:
    """Return why a row whose images can be read has no prediction."""
    given = [name for name, one in score_signatures(model.signatures).items() if is_given(one)]
    return f"it has no score of {' or of '.join(given)}" if given else NOT_ENCODED


def _reasons(
    rows: KeyedRows,
    is_missing: np.ndarray,
    inputs: Sequence[Stream],
    not_stored: str,
) -> dict[int, str]:
    """Return why features of rows are missing: their images, which are few, are read once more."""
    numbers = np.flatnonzero(is_missing)
    if not len(numbers):
        return {}
    missing = rows.take(numbers)
    reasons = {}
    for index, number in enumerate(numbers.tolist()):
        places: dict[Stream, str | None] = {
            "image": missing.images[index],
            "image-prompt": missing.image_prompts[index],
        }
        reasons[number] = not_stored
        for stream, place in places.items():
            if place and stream in inputs:
                defect = _defect(place, bytes(missing.keys.of_stream(stream)[index]))
                reasons[number] = defect or reasons[number]
    return reasons


def _defect(place: str, key: bytes) -> str:
    """Return why an image cannot be used, "" if it can."""
    try:
        read_pixels(place, key)
    except ImageError as error:
        return f"{place}: {error}"
    return ""
