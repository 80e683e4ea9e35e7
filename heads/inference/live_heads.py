"""Heads with loaded encoders, which score images in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.images.errors import ImageError
from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.extract.pipeline.loaded_encoders import BATCH, LiveEncoders
from tier4k.extract.pipeline.loaded_scorers import LiveScorers
from tier4k.extract.pipeline.once import Once
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.heads.data.features import FeatureSet, unrated_rows
from tier4k.heads.data.stages import levels_of
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.score_rows import Predicted
from tier4k.heads.inference.scores import summary_of_models
from tier4k.heads.results.model import HeadKey

ROWS_AT_ONCE = 1024


class LiveHeads:
    """The heads of one source with their encoders.

    Args:
        source: Heads with their encoders.
        device: "auto", or a torch device.
        workers: Number of threads that read images ahead of the networks; with 0, this thread reads them.
        batch_size: Number of images or texts that go through a network at once.

    Attributes:
        model: Model with the heads.
        device: The torch device of the networks.
    """

    def __init__(
        self,
        source: EncoderSource,
        device: str = "auto",
        workers: int = 0,
        batch_size: int = BATCH,
    ) -> None:
        self.model = source.model
        self._images = source.images
        self._encoders = LiveEncoders(source.images, source.texts, device, workers, batch_size)
        self._scorers = LiveScorers(list(source.scorers.values()), device, batch_size)
        self.device = self._encoders.device
        self._towers = source.towers
        self._templates = Once(self._encode_templates)

    def predict(
        self,
        images: Sequence[ImageInput],
        prompts: Sequence[str],
        image_prompts: Sequence[ImageInput | None],
        target: str | None = None,
    ) -> dict[HeadKey, np.ndarray]:
        """Return the scores (N,) of each head for N images, by target and repeat.

        Args:
            images: The images; they are not read if no stream of the heads uses them.
            prompts: The text prompt of each image; any texts if the heads use none.
            image_prompts: The image prompt of each image, None without one.
            target: The only target whose heads predict; None for all.

        Raises:
            FusionError: The heads need image prompts and one is missing.
            ImageError: An input is not an image.
            ModelError: There are no heads of the target.
        """
        encoded = self._encode(images, image_prompts)
        features = self._features(prompts, encoded, self._scorers.scores(images, prompts))
        return self.model.only(target).predict(features)

    def predict_usable(
        self,
        images: Sequence[ImageInput],
        prompts: Sequence[str],
        image_prompts: Sequence[ImageInput | None],
    ) -> tuple[dict[HeadKey, np.ndarray], dict[int, ImageError]]:
        """Return the scores (N,) of each head, and the errors of images that cannot be used, by their number.

        The scores of an image which, or whose image prompt, cannot be used are NaN. The arguments are those
        of `predict`, and so are the other errors.
        """
        defects: dict[int, ImageError] = {}
        encoded = self._encode(images, image_prompts, defects)
        pair_scores = self._scorers.scores(images, prompts, defects)
        usable = np.ones(len(images), bool)
        usable[list(defects)] = False
        scores = {key: np.full(len(images), np.nan) for key in self.model.heads}
        if usable.any():
            features = self._features(
                [prompts[row] for row in np.flatnonzero(usable).tolist()],
                encoded.take(usable),
                None if pair_scores is None else pair_scores[usable],
            )
            for key, predicted in self.model.predict(features).items():
                scores[key][usable] = predicted
        return scores, defects

    def _features(
        self,
        prompts: Sequence[str],
        images: "_EncodedImages",
        pair_scores: np.ndarray | None,
    ) -> FeatureSet:
        features = replace(
            unrated_rows(images.has_image_prompt),
            text=self._encoders.texts(prompts),
            image=images.image,
            image_prompt=images.image_prompt,
            zero_shot=pair_scores,
        )
        return features.with_embeddings(self.model.interaction, self._towers, self._templates())

    def _encode_templates(self) -> np.ndarray | None:
        """Features (T, E) of the templates by the text tower; None if the heads compare no templates."""
        if not self.model.templates or self._towers is None or self._towers.text is None:
            return None
        return self._encoders.texts(self.model.templates)[self._towers.text]

    def _encode(
        self,
        images: Sequence[ImageInput],
        image_prompts: Sequence[ImageInput | None],
        defects: dict[int, ImageError] | None = None,
    ) -> "_EncodedImages":
        """Return the features of rows, of the levels that the heads use.

        An object or a path that occurs several times is encoded once. `defects` receives errors by the number
        of the row; None raises the first.
        """
        guided = [row for row, item in enumerate(image_prompts) if item is not None]
        inputs = [*images, *(item for item in image_prompts if item is not None)]
        distinct: dict[object, ImageInput] = {}
        for item in inputs:
            distinct.setdefault(_identity(item), item)
        number_of = {identity: number for number, identity in enumerate(distinct)}
        numbers = np.array([number_of[_identity(item)] for item in inputs], np.int64)
        found: dict[int, ImageError] | None = None if defects is None else {}
        encoded = self._encoders.images(list(distinct.values()), found)
        if defects is not None and found:
            for row, number in zip([*range(len(images)), *guided], numbers.tolist(), strict=True):
                if number in found:
                    defects[row] = found[number]
        has_image_prompt = np.array([item is not None for item in image_prompts])
        rows = _EncodedImages({}, {}, has_image_prompt)
        for name, features in encoded.items():
            used = self._used_levels(name, features)[numbers]
            rows.image[name] = used[: len(images)]
            rows.image_prompt[name] = np.zeros_like(rows.image[name])
            rows.image_prompt[name][has_image_prompt] = used[len(images) :]
        return rows

    def _used_levels(self, name: str, features: np.ndarray) -> np.ndarray:
        stages = levels_of(self.model.stages, name, len(self._images))
        if not stages or not features.shape[-1]:  # no image could be used
            return features
        levels = Levels.parse(self._images[name].signature.feature)
        return features[..., levels.columns(stages)]


@dataclass(frozen=True)
class _EncodedImages:
    """Features (N, …) of the images and image prompts of N rows, as in a `FeatureSet`."""

    image: dict[str, np.ndarray]
    image_prompt: dict[str, np.ndarray]
    has_image_prompt: np.ndarray

    def take(self, rows: np.ndarray) -> "_EncodedImages":
        """Return the rows that a mask chooses."""
        image = {name: features[rows] for name, features in self.image.items()}
        image_prompt = {name: features[rows] for name, features in self.image_prompt.items()}
        return _EncodedImages(image, image_prompt, self.has_image_prompt[rows])


class LiveRows:
    """Heads that score rows in memory: nothing is stored.

    Args:
        sources: Heads with their encoders.
        options: Device, batch size and number of reading threads.
    """

    def __init__(self, sources: Sequence[EncoderSource], options: ExtractionOptions) -> None:
        batch_size = options.batch_size or BATCH
        self._heads = [LiveHeads(source, options.device, options.workers, batch_size) for source in sources]
        models = [source.model for source in sources]
        self.summary = summary_of_models(models)
        self.inputs = models[0].content
        self.rows_at_once = ROWS_AT_ONCE

    def predict(self, rows: KeyedRows) -> Predicted:
        """Return the predictions of all heads for rows without problems.

        Raises:
            FusionError: The heads need image prompts, and a row has none.
            ExtractionError: The device has too little memory.
        """
        image_prompts = rows.image_prompts if "image-prompt" in self.inputs else [None] * len(rows)
        values: dict[HeadKey, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for heads in self._heads:
            predicted, defects = heads.predict_usable(rows.images, rows.prompts, image_prompts)
            values |= predicted
            reasons |= {row: str(error) for row, error in defects.items()}
        return Predicted(values, reasons)


def _identity(image: ImageInput) -> object:
    """Return a value that is equal only for inputs that are the same image: a path, or the same object."""
    return str(image) if isinstance(image, str | Path) else id(image)
