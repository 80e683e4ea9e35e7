"""The encoders that a user chooses for heads."""

from collections.abc import Sequence
from dataclasses import dataclass

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.encoders.image_choice import ImageChoice


@dataclass(frozen=True)
class EncoderChoice:
    """The encoders that a user chooses.

    Attributes:
        images: Image encoders with their options, each once; empty if no stream uses images.
        texts: Names of text encoders, each once; empty if no stream uses text.
    """

    images: tuple[ImageChoice, ...]
    texts: tuple[str, ...]

    def for_streams(self, streams: Sequence[Stream]) -> "EncoderChoice":
        """Return only the encoders of some streams."""
        return EncoderChoice(
            images=self.images if {"image", "image-prompt"} & set(streams) else (),
            texts=self.texts if "text" in streams else (),
        )
