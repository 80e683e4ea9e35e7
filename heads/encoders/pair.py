"""The encoders that end-to-end training starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import IMAGE_STREAMS, Stream
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.weights.files import search_folders


@dataclass(frozen=True)
class EncoderPair:
    """An image encoder and a text encoder, with the location of their weights.

    Attributes:
        image: Encoder of images; None if no stream uses images.
        text: Encoder of text prompts; None if no stream uses text.
    """

    image: ImageEncoder | None
    text: TextEncoder | None

    @classmethod
    def find(
        cls,
        image_encoder: str | ImageChoice | None,
        text_encoder: str | None,
        data: str | Path | None = None,
        *,
        image_weights: str | Path | None = None,
        text_weights: str | Path | None = None,
    ) -> "EncoderPair":
        """Find encoders and their weights.

        Args:
            image_encoder: Name of an image encoder, such as "clip", or a choice with options of its features;
                None for no image encoder.
            text_encoder: Name of a text encoder, such as "minilm"; None for no text encoder.
            data: Data folder, where weights are searched besides the working directory.
            image_weights: Weights of the image encoder; None searches for them.
            text_weights: Weights of the text encoder; None searches for them.

        Raises:
            EncoderError, WeightsError: An encoder or its weights do not exist.
        """
        folders = search_folders(None if data is None else Path(data))
        image: ImageEncoder | None = None
        text: TextEncoder | None = None
        if image_encoder is not None:
            choice = image_encoder if isinstance(image_encoder, ImageChoice) else ImageChoice(image_encoder)
            image = find_image_encoder(choice, _path(image_weights), folders)
        if text_encoder is not None:
            text = find_text_encoder(text_encoder, _path(text_weights), folders)
        return cls(image, text)

    def for_streams(self, streams: Sequence[Stream]) -> "EncoderPair":
        """Return only the encoders of some streams."""
        return EncoderPair(
            self.image if {*IMAGE_STREAMS} & {*streams} else None,
            self.text if "text" in streams else None,
        )

    @property
    def all(self) -> list[ImageEncoder | TextEncoder]:
        """The encoders that there are."""
        return [encoder for encoder in (self.image, self.text) if encoder is not None]

    @property
    def signatures(self) -> dict[str, Signature]:
        """Signatures of the encoders, as `config.json` names them."""
        return {encoder.signature.stream: encoder.signature for encoder in self.all}

    @property
    def architecture(self) -> str:
        """Architecture of the image encoder; "" without one."""
        return self.image.signature.architecture if self.image else ""


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
