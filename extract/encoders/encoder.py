"""Encoders: frozen descriptions with a signature. `pipeline/load.py` builds the networks of encoders."""

from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import FeatureName, Precision
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.text_families import PLAIN_BERT, TextModel
from tier4k.extract.images.crops import CENTRE_CROP, Crops
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.weights.files import Weights


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder with the location of its weights, which are not loaded yet.

    Attributes:
        preset: The architecture and its usual options.
        weights: File of the weights.
        preprocessing: Resizing and cropping of the images.
        feature: Kind of features: the pooled output, or statistics of several levels.
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
    """A text encoder with the location of its folder, which is not loaded yet.

    Attributes:
        preset: Name of the encoder, and where its files are.
        weights: Folder with the weights and the tokenizer.
        precision: Arithmetic of the network; features are stored in float32 in any case.
        model: Architecture, limit of tokens, and pooling.
    """

    preset: TextPreset
    weights: Weights
    precision: Precision = "fp32"
    model: TextModel = PLAIN_BERT

    @property
    def signature(self) -> Signature:
        """Everything that the features depend on."""
        return Signature(
            stream="text",
            encoder=self.preset.name,
            architecture=f"transformers {self.model.family.model}",
            weights=self.weights.sha256,
            preparation=self.model.preparation,
            feature=self.model.feature,
            precision=self.precision,
        )
