"""What a head sees: the stored features of a data set's rows, fused as TIER does."""

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
    """What is known of N rows beside features and scores, in the manifest's order.

    Attributes:
        name: (N,) names of the pictures, distinct.
        group: (N,) identity of the prompt.
        generator: (N,) text-to-image model.
        position: (N,) number of the row within the benchmark in the source table, which the published split counts by.
        picture: (N,) key of the picture's content, hexadecimal.
    """

    name: np.ndarray
    group: np.ndarray
    generator: np.ndarray
    position: np.ndarray
    picture: np.ndarray

    @staticmethod
    def of(manifest: Manifest) -> "Rows":
        """The rows of a manifest."""
        table = manifest.table
        return Rows(
            *(table[column].to_numpy() for column in ("name", "group", "generator", "position", "image_key"))
        )

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, kw_only=True)
class FeatureSet(Rows):
    """Features and scores of N rows, in the manifest's order.

    Attributes:
        text: (N, Dt) features of the text prompts.
        image: (N, Di) features of the pictures, (N, V, Di) where V views of each are stored, the centre first.
        image_prompt: features of the image prompts, of the same shape, zero where there is none.
        has_image_prompt: (N,) bool.
        targets: (N, T) mean opinion scores, float64.
        target_names: Names of the T targets.
        zero_shot: (N, S) scores of S zero-shot scorers, the last columns of fused vectors; None without.
    """

    text: np.ndarray
    image: np.ndarray
    image_prompt: np.ndarray
    has_image_prompt: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]
    zero_shot: np.ndarray | None = None

    def scores(self, target: str) -> np.ndarray:
        """(N,) mean opinion scores of one target."""
        return self.targets[:, self.target_names.index(target)]


def load_features(
    manifest: Manifest,
    images: FeatureStore,
    texts: FeatureStore,
    stages: Sequence[str] = (),
    zero_shot: Sequence[FeatureStore] = (),
) -> FeatureSet:
    """Read the features of every row of a manifest, row by row aligned with it.

    Args:
        manifest: The rows.
        images, texts: Stores of their features.
        stages: Names of the levels that are kept of multilevel features; none for all that is stored.
        zero_shot: Stores of zero-shot scores.

    Raises:
        LevelsError: The features of the pictures have no levels.
        StoreError: Some rows are not extracted yet.
        ShardError: A shard is damaged.
    """
    table = manifest.table
    has_image_prompt = (table["image_prompt_key"] != "").to_numpy()
    # Both picture streams are read in one pass: a row without an image prompt reads its picture twice and is then zeroed.
    prompt_keys = table["image_prompt_key"].where(has_image_prompt, table["image_key"])
    pictures = images.read(_keys(pd.concat([table["image_key"], prompt_keys])))
    if stages:
        pictures = pictures[..., Levels.parse(images.signature.feature).columns(stages)]
    image, image_prompt = pictures[: len(table)], pictures[len(table) :]
    image_prompt[~has_image_prompt] = 0
    pairs = _keys(manifest.pair_keys()) if zero_shot else None
    return replace(
        rows_alone(manifest),
        zero_shot=np.concatenate([store.read(pairs) for store in zero_shot], axis=1)
        if pairs is not None
        else None,
        text=texts.read(_keys(table["prompt_key"])),
        image=image,
        image_prompt=image_prompt,
    )


def rows_alone(manifest: Manifest) -> FeatureSet:
    """What is known of a manifest's rows without any features."""
    table, nothing = manifest.table, np.empty((len(manifest), 0), np.float32)
    return FeatureSet(
        text=nothing,
        image=nothing,
        image_prompt=nothing,
        has_image_prompt=(table["image_prompt_key"] != "").to_numpy(),
        targets=table[list(manifest.targets)].to_numpy(float),
        target_names=manifest.targets,
        **vars(Rows.of(manifest)),
    )


def _keys(texts: pd.Series) -> np.ndarray:
    return key_array(map(bytes.fromhex, texts))
