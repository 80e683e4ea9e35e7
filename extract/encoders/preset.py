"""Encoders known by name: architecture, location of the weights, and usual options."""

from dataclasses import dataclass

from tier4k.extract.encoders.choices import FeatureName, Library
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.timm_models import timm_levels
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.weights.files import Package


@dataclass(frozen=True)
class ImagePreset:
    """An image encoder known by name.

    Attributes:
        name: Value of --image-encoder.
        architecture: timm's name of the network, or "transformers" and the name of the class.
        files: File names searched in `pretrained/`, in this order; "resnet18.*" stands for every suffix of
            weights.
        download: Where to download the weights, for the message when they are missing.
        hub: Hugging Face repository with the same weights.
        reference: Preprocessing of TIER-4K.
        native: Preprocessing in timm's configuration of the same weights (the tag in `hub`).
        default_preprocessing: Name of the preprocessing used by default.
        feature: "pooled" (timm's pooled output: the global average of a CNN's last map) or
            "class-token-before-norm", or "projection" to the joint space of images and texts.
        package: Python package that contains the weights.
        levels: Levels of multilevel features; None uses timm's description of the architecture, and is none
            for a network of transformers.
        fixed_size: Whether the encoder accepts images of one size only.
        multiple: Sides of whole images are multiples of so many pixels.
        library: Library that builds the network.
    """

    name: str
    architecture: str
    files: tuple[str, ...]
    download: str
    hub: str
    reference: Preprocessing
    native: Preprocessing
    default_preprocessing: PreprocessingName = "reference"
    feature: str = "pooled"
    package: Package | None = None
    levels: Levels | None = None
    fixed_size: bool = False
    multiple: int = 1
    library: Library = "timm"

    def preprocessing(
        self,
        name: PreprocessingName | None = None,
        image_size: ImageSize | None = None,
    ) -> Preprocessing:
        """Return the preprocessing for a name and an image size.

        Args:
            name: "reference" or "native"; None uses the default.
            image_size: Pixels of the shorter side of the uncropped image, or "full"; None crops.

        Raises:
            EncoderError: The encoder accepts images of one size only.
        """
        name = name or self.default_preprocessing
        preprocessing = self.reference if name == "reference" else self.native
        if image_size is None:
            return preprocessing
        if self.fixed_size:
            raise EncoderError(
                f"{self.name} accepts images of {preprocessing.size} x {preprocessing.size} only: "
                "do not pass --image-size, nor --preset, which sets --image-size"
            )
        return preprocessing.whole(image_size, self.multiple)

    def feature_point(self, name: FeatureName) -> str:
        """Return the text of a signature for a kind of features.

        Raises:
            EncoderError: The architecture has no multilevel features.
        """
        if name == "pooled":
            return self.feature
        return str(self.require_levels())

    def require_levels(self) -> Levels:
        """Return the levels of the multilevel features.

        Raises:
            EncoderError: The architecture has no multilevel features.
        """
        if self.levels is None and self.library == "transformers":
            raise EncoderError(
                f"the hidden states of {self.name} ({self.architecture}) have no form that tier4k knows: "
                "pass --feature pooled"
            )
        return self.levels or timm_levels(self.architecture)


@dataclass(frozen=True)
class TextPreset:
    """A BERT-like text encoder known by name.

    Attributes:
        name: Value of --text-encoder.
        folder: Name of a folder with config.json, tokenizer files and weights, searched beside `pretrained/`.
        hub: Hugging Face repository with the same files.
        package: Python package that contains the folder.
    """

    name: str
    folder: str
    hub: str
    package: Package | None = None

    def require_package(self) -> Package:
        """Return the package of an encoder that has one."""
        assert self.package is not None
        return self.package
