"""The choice of an image encoder that a user makes."""

from dataclasses import dataclass

from tier4k.extract.encoders.choices import DEFAULT_IMAGE_ENCODER, FeatureName, Precision, PresetName
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.crops import Crops


@dataclass(frozen=True)
class ImageChoice:
    """What a user asks of an image encoder; None leaves it to the encoder, or, where stores are looked for, to what there is.

    Attributes:
        encoder: A preset, or `timm:NAME`.
        prepare: "reference" or "native".
        image_size: Pixels of the shorter side of the whole picture, or "full".
        feature: What is read from the network.
        precision: Arithmetic of the network.
        views: Views of each picture.
    """

    encoder: str = DEFAULT_IMAGE_ENCODER
    preprocessing: PreprocessingName | None = None
    image_size: ImageSize | None = None
    feature: FeatureName | None = None
    precision: Precision | None = None
    crops: Crops | None = None


# What was measured to serve best; README tells the figures.
PRESETS: dict[PresetName, ImageChoice] = {"best": ImageChoice(image_size=512, feature="multilevel")}
