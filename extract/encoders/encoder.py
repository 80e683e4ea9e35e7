"""Encoders: frozen descriptions with a signature."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import FeatureName, Precision
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.weights import Weights
from tier4k.extract.images.crops import CENTRE_CROP, Crops
from tier4k.extract.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    pass


MAX_TOKENS = 512


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder with its weights found, not yet loaded.

    Attributes:
        preset: What it is.
        weights: Its weights.
        preparation: How pictures are prepared.
        feature: What is read from it.
        precision: Arithmetic of the network; features are stored in float32 all the same.
        views: Views of each picture.
    """

    preset: ImagePreset
    weights: Weights
    preprocessing: Preprocessing
    feature: FeatureName = "pooled"
    precision: Precision = "fp32"
    crops: Crops = CENTRE_CROP

    @property
    def signature(self) -> Signature:
        """What makes the features of this encoder what they are."""
        preset, point = self.preset, self.preset.feature_point(self.feature)
        prepared, crops = str(self.preprocessing), str(self.crops)
        return Signature(
            "image",
            preset.name,
            preset.architecture,
            self.weights.sha256,
            prepared,
            point,
            self.precision,
            crops,
        )


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder with its folder found, not yet loaded."""

    preset: TextPreset
    weights: Weights
    precision: Precision = "fp32"
    max_tokens: int = MAX_TOKENS

    @property
    def signature(self) -> Signature:
        """What makes the features of this encoder what they are."""
        preprocessing = f"reference: its own tokenizer, truncated at {self.max_tokens} tokens"
        return Signature(
            "text",
            self.preset.name,
            "transformers AutoModel",
            self.weights.sha256,
            preprocessing,
            "masked-mean",
            self.precision,
        )
