"""Encoders: frozen descriptions with a signature. `pipeline/load.py` builds the networks of encoders."""

from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import FeatureName, Precision, StoreDtype
from tier4k.extract.encoders.function import ImageEncoderFunction
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
        precision: Arithmetic of the network.
        crops: The crops of each image.
        store_dtype: Type of the stored numbers, whatever the precision.
        function: The function of an encoder in code; None for others.
    """

    preset: ImagePreset
    weights: Weights
    preprocessing: Preprocessing
    feature: FeatureName = "pooled"
    precision: Precision = "fp32"
    crops: Crops = CENTRE_CROP
    store_dtype: StoreDtype = "float32"
    function: ImageEncoderFunction | None = None

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
            dtype=self.store_dtype,
        )


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder with the location of its folder, which is not loaded yet.

    Attributes:
        preset: Name of the encoder, and where its files are.
        weights: Folder with the weights and the tokenizer.
        precision: Arithmetic of the network.
        model: Architecture, limit of tokens, and pooling.
        store_dtype: Type of the stored numbers, whatever the precision.
    """

    preset: TextPreset
    weights: Weights
    precision: Precision = "fp32"
    model: TextModel = PLAIN_BERT
    store_dtype: StoreDtype = "float32"

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
            dtype=self.store_dtype,
        )
