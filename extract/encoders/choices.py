"""Values of the options for encoders. Imports no library, so that help shows at once."""

from typing import Literal

FeatureName = Literal["pooled", "multilevel"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
StoreDtype = Literal["float32", "float16"]
Library = Literal["timm", "transformers", "function"]
PresetName = Literal["best", "clip"]

DEFAULT_IMAGE_ENCODER = "efficientnet-lite0"
DEFAULT_TEXT_ENCODER = "minilm"
