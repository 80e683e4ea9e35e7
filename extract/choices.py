"""The words that options take. Imports nothing, so that the command line can show its help at once."""

from typing import Literal

LayoutName = Literal["pku", "agiqa3k", "table"]
OnError = Literal["stop", "skip"]
PreparationName = Literal["reference", "native"]
Benchmark = Literal["I2I", "T2I", "AIGIQA4K"]
FeatureName = Literal["pooled", "multilevel"]
Precision = Literal["fp32", "bf16", "fp16"]
ImageSize = int | Literal["full"]
PresetName = Literal["best"]
ScorerName = Literal["clipscore", "blipscore", "imagereward", "pickscore"]

DEFAULT_IMAGE_ENCODER = "efficientnet-lite0"
DEFAULT_TEXT_ENCODER = "minilm"
