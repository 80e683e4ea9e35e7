"""The encoders that end-to-end training starts from."""

from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder


@dataclass(frozen=True)
class EncoderPair:
    """An image encoder and a text encoder, with the location of their weights.

    Attributes:
        image: Encoder of images; None if no stream uses images.
        text: Encoder of text prompts; None if no stream uses text.
    """

    image: ImageEncoder | None
    text: TextEncoder | None

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
