"""Encoders: frozen descriptions with a signature. `pipeline/load.py` builds their networks."""

from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import FeatureName, Precision
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.weights import Weights
from tier4k.extract.images.crops import CENTRE_CROP, Crops
from tier4k.extract.images.preprocessing import Preprocessing

MAX_TOKENS = 512


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder whose weights are found and not yet loaded.

    Attributes:
        preset: The architecture and its usual options.
        weights: Its weights.
        preprocessing: Resize and crop of the images.
        feature: The point of the network that is read.
        precision: Arithmetic of the network; features are stored in float32 in any case.
        crops: The crops of each image.
    """

    preset: ImagePreset
    weights: Weights
    preprocessing: Preprocessing
    feature: FeatureName = "pooled"
    precision: Precision = "fp32"
    crops: Crops = CENTRE_CROP

    @property
    def signature(self) -> Signature:
        """Everything that the features depend on."""
        return Signature(
            stream="image",
            encoder=self.preset.name,
            architecture=self.preset.architecture,
            weights=self.weights.sha256,
            preparation=str(self.preprocessing),
            feature=self.preset.feature_point(self.feature),
            precision=self.precision,
            views=str(self.crops),
        )


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder whose folder is found and not yet loaded.

    Attributes:
        preset: The name and its files.
        weights: Its folder.
        precision: Arithmetic of the network; features are stored in float32 in any case.
        max_tokens: Longer texts are truncated.
    """

    preset: TextPreset
    weights: Weights
    precision: Precision = "fp32"
    max_tokens: int = MAX_TOKENS

    @property
    def signature(self) -> Signature:
        """Everything that the features depend on."""
        return Signature(
            stream="text",
            encoder=self.preset.name,
            architecture="transformers AutoModel",
            weights=self.weights.sha256,
            preparation=f"reference: its own tokenizer, truncated at {self.max_tokens} tokens",
            feature="masked-mean",
            precision=self.precision,
        )
