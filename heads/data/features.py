"""Read the features of the rows of a data set from stores, as input of a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tier4k.cache.errors import StoreError
from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.levels import Levels
from tier4k.heads.data.embeddings import Embeddings, Towers
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.stages import levels_of
from tier4k.heads.data.stores import FeatureStores


@dataclass(frozen=True, kw_only=True)
class FeatureSet(Rows):
    """Features and scores of N rows, in the manifest's order.

    The features of a stream are one array for each encoder, by the name of the array and in the order of the
    names; there are none of a stream that no store is read for.

    Attributes:
        text: (N, Dt) features of the text prompts.
        image: (N, Di) features of the images; (N, V, Di) where V crops of each are stored, the centre crop
            first.
        image_prompt: Features of the image prompts, of the same names and shapes; zero if a row has no image
            prompt, or if no image prompts are read.
        has_image_prompt: (N,) bool, whether the row has an image prompt.
        targets: (N, T) mean opinion scores, float64, NaN where a row has no score.
        target_names: Names of the T targets.
        score_errors: (N, T) standard errors of the scores, NaN where they are unknown; None if all are.
        zero_shot: (N, S) scores of S zero-shot scorers; None without scorers.
        embeddings: What interactions are computed from; None without interactions.
    """

    text: Mapping[str, np.ndarray]
    image: Mapping[str, np.ndarray]
    image_prompt: Mapping[str, np.ndarray]
    has_image_prompt: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]
    score_errors: np.ndarray | None = None
    zero_shot: np.ndarray | None = None
    embeddings: Embeddings | None = None

    def scores(self, target: str) -> np.ndarray:
        """Return the (N,) mean opinion scores of one target as in the tables, NaN where a row has none.

        Those of several data sets have several scales (see `tier4k.heads.evaluation.alignment`).
        """
        column = self.target_names.index(target)
        return self.targets[:, column]

    def errors(self, target: str) -> np.ndarray:
        """Return the (N,) standard errors of the scores of one target, NaN where they are unknown."""
        if self.score_errors is None:
            return np.full(len(self), np.nan)
        return self.score_errors[:, self.target_names.index(target)]

    def with_embeddings(
        self,
        interaction: str,
        towers: Towers | None,
        templates: np.ndarray | None = None,
    ) -> "FeatureSet":
        """Return the rows with what an interaction is computed from.

        Args:
            interaction: Names of interactions with "+" between them, or "none".
            towers: The encoders whose embeddings are compared, as `find_towers` returns them; their arrays
                are in `image` and `image_prompt`, and in `text` if the interaction needs prompts.
            templates: Features (T, E) of the templates by the text tower, if the interaction needs them.

        Raises:
            InteractionError: There is no such interaction, or features are missing or differ in width.
        """
        if towers is None:
            return self
        embeddings = Embeddings.of(
            interaction,
            self.image[towers.image],
            self.image_prompt[towers.image],
            self.has_image_prompt,
            self.text.get(towers.text or ""),
            templates,
        )
        return replace(self, embeddings=embeddings)


def load_features(
    manifest: Manifest,
    stores: FeatureStores,
    stages: Sequence[str] = (),
    interaction: str = NO_INTERACTION,
    templates: Sequence[str] = (),
    inputs: Sequence[Stream] = STREAMS,
) -> FeatureSet:
    """Read the features of every row of a manifest, in its order.

    Args:
        manifest: Data set with the rows.
        stores: Stores with the features of images and prompts, and with zero-shot scores.
        stages: Names of the levels to keep of multilevel features (see `tier4k.heads.data.stages`); an empty
            sequence keeps all.
        interaction: Interactions that are computed from the features, with "+" between them, or "none".
        templates: Texts of the templates, if the interaction needs them.
        inputs: The inputs whose features are read (see `tier4k.heads.data.fusion.needed_inputs`); stores may
            lack the others.

    Raises:
        InteractionError: There is no such interaction, or the stores lack what it needs.
        LevelsError: The image features have no levels.
        StoreError: Some rows are not extracted yet, or image encoders have different numbers of crops.
        ShardError: A shard is damaged.
    """
    rows = rows_without_features(manifest)
    text_keys = _keys(manifest.table["prompt_key"])
    texts = {}
    if "text" in inputs:
        texts = {name: store.read(text_keys) for name, store in stores.texts.items()}
    images, image_prompts = {}, {}
    for name, store in stores.images.items():
        levels = levels_of(stages, name, len(stores.images))
        images[name], image_prompts[name] = _read_images(
            manifest, store, levels, rows.has_image_prompt, inputs
        )
    _require_same_crops(images)
    features = replace(
        rows,
        text=texts,
        image=images,
        image_prompt=image_prompts,
        zero_shot=_read_scores(manifest, stores.zero_shot),
    )
    towers = stores.towers(interaction)
    return features.with_embeddings(interaction, towers, stores.templates(interaction, templates))


def _require_same_crops(images: Mapping[str, np.ndarray]) -> None:
    """Refuse image features of different numbers of crops, because a row has one vector for each crop."""
    if len({features.shape[1:-1] for features in images.values()}) > 1:
        crops = [f"{name} {features[0, ..., 0].size}" for name, features in images.items()]
        raise StoreError(
            f"the image encoders have different numbers of crops ({', '.join(crops)}): extract all of them "
            "with the same --crops"
        )


def rows_without_features(manifest: Manifest) -> FeatureSet:
    """Return the rows of a manifest with their scores and without features."""
    table = manifest.table
    return FeatureSet(
        text={},
        image={},
        image_prompt={},
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
    inputs: Sequence[Stream],
) -> tuple[np.ndarray, np.ndarray]:
    """Read images and image prompts in one pass over the store.

    A row without an image prompt gets zeros, and so does what is not among the inputs.
    """
    image_keys = manifest.table["image_key"]
    keys: dict[Stream, pd.Series] = {
        "image": image_keys,
        "image-prompt": manifest.table["image_prompt_key"].where(has_image_prompt, image_keys),
    }
    read = [stream for stream in keys if stream in inputs]
    features = images.read(_keys(pd.concat([keys[stream] for stream in read])))
    if stages:
        levels = Levels.parse(images.signature.feature)
        features = features[..., levels.columns(stages)]
    arrays = dict(zip(read, np.split(features, len(read)), strict=True))
    zeros = np.zeros_like(features[: len(image_keys)])
    image = arrays.get("image", zeros)
    image_prompt = arrays.get("image-prompt", zeros)
    image_prompt[~has_image_prompt] = 0
    return image, image_prompt


def _read_scores(manifest: Manifest, stores: Sequence[FeatureStore]) -> np.ndarray | None:
    if not stores:
        return None
    pairs = _keys(manifest.pair_keys())
    return np.concatenate([store.read(pairs) for store in stores], axis=1)


def _keys(hexadecimal: pd.Series) -> np.ndarray:
    return key_array(map(bytes.fromhex, hexadecimal))
