"""Heads whose encoders stay loaded: they score images in memory."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.pipeline.loaded_encoders import ImageInput, LiveEncoders
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.stages import levels_of
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.results.model import HeadKey


class LiveHeads:
    """The heads of one source with their encoders.

    Args:
        source: Heads with their encoders.
        device: "auto", or a torch device.

    Attributes:
        model: Model with the heads.
    """

    def __init__(self, source: EncoderSource, device: str = "auto") -> None:
        self.model = source.model
        self._images = source.images
        self._encoders = LiveEncoders(source.images, source.texts, device)
        self._towers = source.towers

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
        features = self._features(images, prompts, image_prompts)
        return self.model.only(target).predict(features)

    def _features(
        self,
        images: Sequence[ImageInput],
        prompts: Sequence[str],
        image_prompts: Sequence[ImageInput | None],
    ) -> FeatureSet:
        existing_prompts = [item for item in image_prompts if item is not None]
        has_image_prompt = np.array([item is not None for item in image_prompts])
        image, image_prompt = {}, {}
        for name, encoded in self._encode([*images, *existing_prompts]).items():
            image[name] = encoded[: len(images)]
            image_prompt[name] = np.zeros_like(image[name])
            image_prompt[name][has_image_prompt] = encoded[len(images) :]
        names = np.array([str(row) for row in range(len(images))])
        features = FeatureSet(
            text=self._encoders.texts(prompts) if self.model.reads_prompts else {},
            image=image,
            image_prompt=image_prompt,
            has_image_prompt=has_image_prompt,
            targets=np.empty((len(images), 0)),
            target_names=(),
            name=names,
            group=names,
            generator=names,
            position=np.arange(len(images)),
            image_key=names,
            dataset=names,
        )
        return features.with_embeddings(self.model.interaction, self._towers, self._templates)

    @cached_property
    def _templates(self) -> np.ndarray | None:
        """Features (T, E) of the templates by the text tower; None if the heads compare no templates."""
        if not self.model.templates or self._towers is None or self._towers.text is None:
            return None
        return self._encoders.texts(self.model.templates)[self._towers.text]

    def _encode(self, images: Sequence[ImageInput]) -> dict[str, np.ndarray]:
        """Return the features (N, …, D) of images for each encoder, of the levels that the heads use.

        An object or a path that occurs several times is encoded once.
        """
        distinct: dict[object, ImageInput] = {}
        row_of: dict[object, int] = {}
        identities = list(map(_identity, images))
        for identity, image in zip(identities, images, strict=True):
            row_of.setdefault(identity, len(row_of))
            distinct[identity] = image
        rows = [row_of[identity] for identity in identities]
        encoded = self._encoders.images(list(distinct.values()))
        return {name: self._used_levels(name, features)[rows] for name, features in encoded.items()}

    def _used_levels(self, name: str, features: np.ndarray) -> np.ndarray:
        stages = levels_of(self.model.stages, name, len(self._images))
        if not stages:
            return features
        levels = Levels.parse(self._images[name].signature.feature)
        return features[..., levels.columns(stages)]


def _identity(image: ImageInput) -> object:
    """Return a value that is equal for inputs that are surely the same image."""
    return str(image) if isinstance(image, str | Path) else id(image)
