"""The encoders that a user chooses for heads."""

from collections.abc import Sequence
from dataclasses import dataclass

from tier4k.extract.datasets.choices import IMAGE_STREAMS, Stream
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.interactions import NO_INTERACTION, needed_embeddings


@dataclass(frozen=True)
class EncoderChoice:
    """The encoders that a user chooses.

    Attributes:
        images: Image encoders with their options, each once; empty if no stream uses images.
        texts: Names of text encoders, each once; empty if no stream uses text.
    """

    images: tuple[ImageChoice, ...]
    texts: tuple[str, ...]

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
