"""Read the features of the rows of a data set from stores, as input of a head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.levels import Levels


@dataclass(frozen=True)
class Rows:
    """N rows of a data set without features and scores, in the manifest's order.

    Attributes:
        name: (N,) names of the images, distinct.
        group: (N,) identity of the prompt: rows with equal prompts or equal images share it.
        generator: (N,) text-to-image model.
        position: (N,) number of the row within its benchmark in the source table; the published split counts
            by it.
        image_key: (N,) key of the image's content, hexadecimal.
    """

    name: np.ndarray
    group: np.ndarray
    generator: np.ndarray
    position: np.ndarray
    image_key: np.ndarray

    @staticmethod
    def of(manifest: Manifest) -> "Rows":
        """Return the rows of a manifest."""
        table = manifest.table
        return Rows(
            name=table["name"].to_numpy(),
            group=table["group"].to_numpy(),
            generator=table["generator"].to_numpy(),
            position=table["position"].to_numpy(),
            image_key=table["image_key"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, kw_only=True)
class FeatureSet(Rows):
    """Features and scores of N rows, in the manifest's order.

    Attributes:
        text: (N, Dt) features of the text prompts.
        image: (N, Di) features of the images; (N, V, Di) where V crops of each are stored, the centre crop
            first.
        image_prompt: Features of the image prompts, of the same shape; zero if a row has no image prompt.
        has_image_prompt: (N,) bool, whether the row has an image prompt.
        targets: (N, T) mean opinion scores, float64, NaN where a row has no score.
        target_names: Names of the T targets.
        score_errors: (N, T) standard errors of the scores, NaN where they are unknown; None if all are.
        zero_shot: (N, S) scores of S zero-shot scorers, the last columns of fused vectors; None without
            scorers.
    """

    text: np.ndarray
    image: np.ndarray
    image_prompt: np.ndarray
    has_image_prompt: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]
    score_errors: np.ndarray | None = None
    zero_shot: np.ndarray | None = None

    def scores(self, target: str) -> np.ndarray:
        """Return the (N,) mean opinion scores of one target, NaN where a row has none."""
        column = self.target_names.index(target)
        return self.targets[:, column]

    def errors(self, target: str) -> np.ndarray:
        """Return the (N,) standard errors of the scores of one target, NaN where they are unknown."""
        if self.score_errors is None:
            return np.full(len(self), np.nan)
        return self.score_errors[:, self.target_names.index(target)]


def load_features(
    manifest: Manifest,
    images: FeatureStore,
    texts: FeatureStore,
    stages: Sequence[str] = (),
    zero_shot: Sequence[FeatureStore] = (),
) -> FeatureSet:
    """Read the features of every row of a manifest, in its order.

    Args:
        manifest: Data set with the rows.
        images, texts: Stores with the features of images and prompts.
        stages: Names of the levels to keep of multilevel features; an empty sequence keeps all.
        zero_shot: Stores with zero-shot scores.

    Raises:
        LevelsError: The image features have no levels.
        StoreError: Some rows are not extracted yet.
        ShardError: A shard is damaged.
    """
    rows = rows_without_features(manifest)
    image, image_prompt = _read_images(manifest, images, stages, rows.has_image_prompt)
    return replace(
        rows,
        text=texts.read(_keys(manifest.table["prompt_key"])),
        image=image,
        image_prompt=image_prompt,
        zero_shot=_read_scores(manifest, zero_shot),
    )


def rows_without_features(manifest: Manifest) -> FeatureSet:
    """Return the rows of a manifest with their scores and with features of width 0."""
    table = manifest.table
    no_features = np.empty((len(manifest), 0), np.float32)
    return FeatureSet(
        text=no_features,
        image=no_features,
        image_prompt=no_features,
        has_image_prompt=(table["image_prompt_key"] != "").to_numpy(),
        targets=table[list(manifest.targets)].to_numpy(float),
        target_names=manifest.targets,
        score_errors=np.array([manifest.score_errors(target) for target in manifest.targets]).T,
        **vars(Rows.of(manifest)),
    )


def _read_images(
    manifest: Manifest,
    images: FeatureStore,
    stages: Sequence[str],
    has_image_prompt: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Read images and image prompts in one pass over the store; a row without an image prompt gets zeros."""
    table = manifest.table
    prompt_keys = table["image_prompt_key"].where(has_image_prompt, table["image_key"])
    features = images.read(_keys(pd.concat([table["image_key"], prompt_keys])))
    if stages:
        levels = Levels.parse(images.signature.feature)
        features = features[..., levels.columns(stages)]
    image = features[: len(table)]
    image_prompt = features[len(table) :]
    image_prompt[~has_image_prompt] = 0
    return image, image_prompt


def _read_scores(manifest: Manifest, stores: Sequence[FeatureStore]) -> np.ndarray | None:
    if not stores:
        return None
    pairs = _keys(manifest.pair_keys())
    return np.concatenate([store.read(pairs) for store in stores], axis=1)


def _keys(hexadecimal: pd.Series) -> np.ndarray:
    return key_array(map(bytes.fromhex, hexadecimal))
