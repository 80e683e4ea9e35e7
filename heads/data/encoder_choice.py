"""The encoders that a user chooses for heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tier4k.extract.datasets.choices import IMAGE_STREAMS, Stream
from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.extract.encoders.function import ImageEncoderFunction
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.interactions import NO_INTERACTION, needed_embeddings

ImageEncoder = str | ImageChoice | ImageEncoderFunction

ImageEncoders = ImageEncoder | Sequence[ImageEncoder]


@dataclass(frozen=True)
class EncoderChoice:
    """The encoders that a user chooses.

    Attributes:
        images: Image encoders with their options, each once; empty if no stream uses images.
        texts: Names of text encoders, each once; empty if no stream uses text.
    """

    images: tuple[ImageChoice, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(
        cls,
        image_encoder: ImageEncoders | None = None,
        text_encoder: str | Sequence[str] | None = None,
        encoder: str | ImageChoice | None = None,
    ) -> "EncoderChoice":
        """Return the encoders that a user names, or the default encoders.

        Args:
            image_encoder: Image encoders: names, such as "clip" or "clip@448", choices with options, or
                encoders in code.
            text_encoder: Names of text encoders.
            encoder: A checkpoint with an image encoder and a text encoder, `hf:NAME_OR_PATH`, which come
                first.

        Raises:
            EncoderError: The size in a name is too small or too large.
        """
        images: list[ImageEncoder] = [encoder] if encoder else []
        images += _listed(image_encoder)
        choices = list(map(_choice, images))
        texts = [choices[0].encoder] if encoder else []  # without the size of the images
        texts += _listed(text_encoder)
        return cls(
            images=tuple(dict.fromkeys(choices or [ImageChoice()])),
            texts=tuple(dict.fromkeys(texts or [DEFAULT_TEXT_ENCODER])),
        )

    def for_streams(
        self,
        streams: Sequence[Stream],
        interaction: str = NO_INTERACTION,
    ) -> "EncoderChoice":
        """Return only the encoders of some streams, and those that an interaction may compare.

        Raises:
            InteractionError: There is no such interaction.
        """
        used = {*streams, *needed_embeddings(interaction)}
        return EncoderChoice(
            images=self.images if {*IMAGE_STREAMS, "templates"} & used else (),
            texts=self.texts if {"text", "templates"} & used else (),
        )


def _choice(given: ImageEncoder) -> ImageChoice:
    if isinstance(given, ImageEncoderFunction):
        return ImageChoice(given.name, function=given)
    return given if isinstance(given, ImageChoice) else ImageChoice(given)


def _listed(given: Any) -> list[Any]:
    """Return what a user gives once or several times as a list; none for None."""
    if given is None:
        return []
    return [given] if isinstance(given, str | ImageChoice | ImageEncoderFunction) else list(given)
