"""Encoders known by name: architecture, location of the weights, and usual options."""

from dataclasses import dataclass

from tier4k.extract.encoders.choices import FeatureName, Library
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.timm_models import side_multiple, timm_levels
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.weights.known import KnownWeights


@dataclass(frozen=True)
class ImagePreset:
    """An image encoder known by name.

    Attributes:
        name: Value of --image-encoder.
        architecture: timm's name of the network, or "transformers" and the name of the class.
        weights: The published weights.
        reference: Preprocessing of TIER-4K.
        native: Preprocessing of the published weights, mostly as in timm's configuration.
        default_preprocessing: Name of the preprocessing used by default.
        feature: "pooled" (timm's pooled output: the global average of a CNN's last map),
            "class-token-before-norm", or "projection" (the network's own projection of the pooled output into
            the space that CLIP shares with texts).
        levels: Levels of multilevel features. None: timm describes the levels; a network of transformers has
            none.
        multiple: Number of pixels of which the sides of whole images are multiples. None: timm's network
            decides (`side_multiple`); a network of transformers accepts images of one size only.
        library: Library that builds the network.
    """

    name: str
    architecture: str
    weights: KnownWeights
    reference: Preprocessing
    native: Preprocessing
    default_preprocessing: PreprocessingName = "reference"
    feature: str = "pooled"
    levels: Levels | None = None
    multiple: int | None = None
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
        if self.library == "function" and (name or image_size):
            raise EncoderError(
                f"{self.name} states its preprocessing itself: do not pass --preprocessing, --image-size, "
                "nor --preset, which sets them"
            )
        name = name or self.default_preprocessing
        preprocessing = self.reference if name == "reference" else self.native
        if image_size is None:
            return preprocessing
        multiple = self.multiple
        if multiple is None and self.library == "timm":
            multiple = side_multiple(self.architecture)
        if multiple is None:
            raise EncoderError(
                f"{self.name} accepts images of {preprocessing.size} x {preprocessing.size} only: "
                "do not pass --image-size, nor --preset, which sets --image-size"
            )
        return preprocessing.whole(image_size, multiple)

    def feature_point(self, name: FeatureName) -> str:
        """Return the text that a signature holds for a kind of features.

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
        if self.library == "function":
            raise EncoderError(f"{self.name} is a function, which has one output: pass --feature pooled")
        if self.levels is None and self.library == "transformers":
            raise EncoderError(
                f"the hidden states of {self.name} ({self.architecture}) have no form that tier4k knows: "
                "pass --feature pooled"
            )
        return self.levels or timm_levels(self.architecture)


@dataclass(frozen=True)
class TextPreset:
    """A text encoder known by name.

    Attributes:
        name: Value of --text-encoder.
        weights: The published folder with configuration, tokenizer and weights.
        reads_modules: Whether features are pooled as a folder of sentence-transformers says, and not by the
            mean over the tokens.
    """

    name: str
    weights: KnownWeights
    reads_modules: bool = False
