"""The image encoder that a user chooses, with its options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tier4k.extract.encoders.choices import (
    DEFAULT_IMAGE_ENCODER,
    FeatureName,
    Precision,
    StoreDtype,
)
from tier4k.extract.encoders.names import EncoderError, one_spelling
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.crops import Crops

if TYPE_CHECKING:
    from tier4k.extract.encoders.function import ImageEncoderFunction

FULL_SIZE: Literal["full"] = "full"  # images keep their size

SMALLEST_SIDE = 32

LARGEST_SIDE = 2048


def parse_image_size(text: str) -> ImageSize:
    """Return the size of whole images that a text states.

    Raises:
        EncoderError: It is neither a number of pixels from `SMALLEST_SIDE` to `LARGEST_SIDE` nor "full".
    """
    if text == FULL_SIZE:
        return FULL_SIZE
    if not (text.isdecimal() and SMALLEST_SIDE <= int(text) <= LARGEST_SIDE):
        raise EncoderError(
            f"there is no image size {text!r}: pass a number from {SMALLEST_SIDE} to {LARGEST_SIDE}, or "
            f"{FULL_SIZE}"
        )
    return int(text)


@dataclass(frozen=True)
class ImageChoice:
    """An image encoder with options.

    None selects the default of the encoder, or any value when stores are searched.

    Attributes:
        encoder: A preset, `timm:NAME`, or `hf:NAME_OR_PATH`; `hf:./DIR/` becomes `hf:DIR`, so that one
            spelling names the stores. `NAME@SIZE`, such as "clip@448", also sets `image_size`.
        preprocessing: "reference" or "native".
        image_size: Pixels of the shorter side of the uncropped image, or "full".
        feature: Kind of features: the pooled output, or statistics of several levels.
        precision: Arithmetic of the network.
        crops: The crops of each image.
        store_dtype: Type of the stored numbers.
        function: The encoder itself, if it is one in code that is passed as an object; `encoder` is its name.
    """

    encoder: str = DEFAULT_IMAGE_ENCODER
    preprocessing: PreprocessingName | None = None
    image_size: ImageSize | None = None
    feature: FeatureName | None = None
    precision: Precision | None = None
    crops: Crops | None = None
    store_dtype: StoreDtype | None = None
    function: "ImageEncoderFunction | None" = None

    def __post_init__(self) -> None:
        """Separate name and size, and spell the path of a folder in one way.

        Raises:
            EncoderError: The size in the name is too small or too large.
        """
        object.__setattr__(self, "encoder", one_spelling(self.encoder))
        name, at, size = self.encoder.rpartition("@")
        if at and (size.isdecimal() or size == FULL_SIZE):
            object.__setattr__(self, "encoder", name)
            object.__setattr__(self, "image_size", parse_image_size(size))
        object.__setattr__(self, "encoder", one_spelling(self.encoder))
