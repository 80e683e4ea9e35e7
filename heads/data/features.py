"""Read the features of the rows of a data set from stores, as input of a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tier4k.cache.errors import StoreError
from tier4k.cache.keys import KEY_BYTES, key_array, pair_key
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.levels import Levels
from tier4k.heads.data.embeddings import Embeddings, Towers
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.stages import levels_of
from tier4k.heads.data.stores import FeatureStores, read_float32


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
        columns = slice(*towers.columns)
        embeddings = Embeddings.of(
            interaction,
            self.image[towers.image][..., columns],
            self.image_prompt[towers.image][..., columns],
            self.has_image_prompt,
            self.text.get(towers.text or ""),
            templates,
        )
        return replace(self, embeddings=embeddings)


@dataclass(frozen=True)
class RowKeys:
    """Keys of the inputs of N rows.

    Attributes:
        image, prompt: (N, 32) uint8.
        image_prompt: (N, 32) uint8, zeros where a row has no image prompt.
        has_image_prompt: (N,) bool.
    """

    image: np.ndarray
    prompt: np.ndarray
    image_prompt: np.ndarray
    has_image_prompt: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest) -> "RowKeys":
        """Return the keys of the rows of a manifest."""
        table = manifest.table
        has_image_prompt = (table["image_prompt_key"] != "").to_numpy()
        image_prompt = np.zeros((len(table), KEY_BYTES), np.uint8)
        image_prompt[has_image_prompt] = manifest.keys("image_prompt")
        return cls(manifest.keys("image"), manifest.keys("prompt"), image_prompt, has_image_prompt)

    @classmethod
    def none(cls, rows: int) -> "RowKeys":
        """Return rows whose keys are zeros."""
        image, prompt, image_prompt = (np.zeros((rows, KEY_BYTES), np.uint8) for _ in range(3))
        return cls(image, prompt, image_prompt, np.zeros(rows, bool))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def pairs(self) -> np.ndarray:
        """Keys (N, 32) of the pairs of image and text prompt."""
        return key_array(map(pair_key, map(bytes, self.image), map(bytes, self.prompt)))

    def put(self, rows: np.ndarray, keys: "RowKeys") -> None:
        """Replace the rows that numbers or a mask choose."""
        self.image[rows] = keys.image
        self.prompt[rows] = keys.prompt
        self.image_prompt[rows] = keys.image_prompt
        self.has_image_prompt[rows] = keys.has_image_prompt

    def take(self, rows: np.ndarray | slice) -> "RowKeys":
        """Return the rows that numbers, a mask or a slice choose."""
        return RowKeys(
            self.image[rows], self.prompt[rows], self.image_prompt[rows], self.has_image_prompt[rows]
        )

    def of_stream(self, stream: Stream) -> np.ndarray:
        """Return the keys (N, 32) of one input."""
        return {"text": self.prompt, "image": self.image, "image-prompt": self.image_prompt}[stream]


class FeatureReader:
    """Reads the features of rows, as a head uses them.

    Args:
        stores: Stores with the features of images and prompts, and with scores of pairs.
        stages: Names of the levels to keep of multilevel features (see `tier4k.heads.data.stages`); an empty
            sequence keeps all.
        interaction: Interactions that are computed from the features, with "+" between them, or "none".
        templates: Texts of the templates, if the interaction needs them.
        inputs: The inputs whose features are read (see `tier4k.heads.data.fusion.needed_inputs`); stores may
            lack the others.

    Raises:
        InteractionError: There is no such interaction, or the stores lack what it needs.
    """

    def __init__(
        self,
        stores: FeatureStores,
        stages: Sequence[str] = (),
        interaction: str = NO_INTERACTION,
        templates: Sequence[str] = (),
        inputs: Sequence[Stream] = STREAMS,
    ) -> None:
        self._stores = stores
        self._stages = stages
        self._interaction = interaction
        self._inputs = inputs
        self._towers = stores.towers(interaction, stages)
        self._templates = stores.templates(interaction, templates)

    @property
    def row_bytes(self) -> int:
        """Bytes of the stored features of one row with an image prompt."""
        images = sum(_row_bytes(store) for store in self._stores.images.values())
        texts = sum(_row_bytes(store) for store in self._stores.texts.values())
        return 2 * images + texts

    def holds(self, keys: RowKeys) -> np.ndarray:
        """Return whether the features of all inputs of each row are stored (N,)."""
        holds = np.ones(len(keys), bool)
        for stream in self._inputs:
            stores = self._stores.texts if stream == "text" else self._stores.images
            used = keys.has_image_prompt if stream == "image-prompt" else np.ones(len(keys), bool)
            for store in stores.values():
                holds[used] &= store.holds(keys.of_stream(stream)[used])
        if self._stores.zero_shot:
            pairs = keys.pairs
            for store in self._stores.zero_shot:
                holds &= store.holds(pairs)
        return holds

    def read(self, keys: RowKeys, rows: FeatureSet) -> FeatureSet:
        """Return rows with their features.

        Args:
            keys: Keys of the inputs of N rows.
            rows: The rows without features.

        Raises:
            InteractionError: The stores lack what the interaction needs.
            LevelsError: The image features have no levels.
            StoreError: Some rows are not extracted yet, or image encoders have different numbers of crops.
            ShardError: A shard is damaged.
        """
        texts = {}
        if "text" in self._inputs:
            texts = {name: read_float32(store, keys.prompt) for name, store in self._stores.texts.items()}
        images, image_prompts = {}, {}
        for name, store in self._stores.images.items():
            levels = levels_of(self._stages, name, len(self._stores.images))
            images[name], image_prompts[name] = _read_images(keys, store, levels, self._inputs)
        _require_same_crops(images)
        scores = _read_scores(keys, self._stores.zero_shot)
        features = replace(rows, text=texts, image=images, image_prompt=image_prompts, zero_shot=scores)
        return features.with_embeddings(self._interaction, self._towers, self._templates)


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
        stores: Stores with the features of images and prompts, and with scores of pairs.
        stages, interaction, templates, inputs: See `FeatureReader`.

    Raises:
        TierError: As for `FeatureReader` and its `read`.
    """
    reader = FeatureReader(stores, stages, interaction, templates, inputs)
    return reader.read(RowKeys.of(manifest), rows_without_features(manifest))


def _row_bytes(store: FeatureStore) -> int:
    return store.shards[0].row_bytes if store.shards else 0


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


def unrated_rows(has_image_prompt: np.ndarray) -> FeatureSet:
    """Return N new rows without features, given whether each has an image prompt (N,)."""
    count = len(has_image_prompt)
    names = np.array([str(row) for row in range(count)])
    return FeatureSet(
        text={},
        image={},
        image_prompt={},
        has_image_prompt=has_image_prompt,
        targets=np.empty((count, 0)),
        target_names=(),
        name=names,
        group=names,
        generator=names,
        position=np.arange(count),
        image_key=names,
        dataset=names,
    )


def _read_images(
    row_keys: RowKeys,
    images: FeatureStore,
    stages: Sequence[str],
    inputs: Sequence[Stream],
) -> tuple[np.ndarray, np.ndarray]:
    """Read images and image prompts in one pass over the store.

    A row without an image prompt gets zeros, and so does what is not among the inputs.
    """
    has_image_prompt = row_keys.has_image_prompt
    image_prompt_keys = np.where(has_image_prompt[:, None], row_keys.image_prompt, row_keys.image)
    keys: dict[Stream, np.ndarray] = {"image": row_keys.image, "image-prompt": image_prompt_keys}
    read = [stream for stream in keys if stream in inputs]
    features = read_float32(images, np.concatenate([keys[stream] for stream in read]))
    if stages:
        levels = Levels.parse(images.signature.feature)
        features = features[..., levels.columns(stages)]
    arrays = dict(zip(read, np.split(features, len(read)), strict=True))
    zeros = np.zeros_like(features[: len(row_keys)])
    image = arrays.get("image", zeros)
    image_prompt = arrays.get("image-prompt", zeros)
    image_prompt[~has_image_prompt] = 0
    return image, image_prompt


def _read_scores(keys: RowKeys, stores: Sequence[FeatureStore]) -> np.ndarray | None:
    """Return the scores (N, S) of the pairs of image and prompt; None without scorers."""
    if not stores:
        return None
    pairs = keys.pairs
    return np.concatenate([read_float32(store, pairs) for store in stores], axis=1)
