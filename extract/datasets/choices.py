"""Names that options for data sets take. Imports nothing, so that help shows at once."""

from typing import Literal

LayoutName = Literal["pku", "i2iqa", "agiqa1k", "agiqa3k", "aigciqa2023", "aigiqa20k", "evalmuse", "table"]

ColumnField = Literal["image", "prompt", "image_prompt", "generator", "group", "split", "dataset"]

OnError = Literal["stop", "skip"]

Benchmark = Literal["I2I", "T2I", "all"]

Stream = Literal["text", "image", "image-prompt"]
STREAMS: tuple[Stream, ...] = ("text", "image", "image-prompt")
IMAGE_STREAMS: tuple[Stream, ...] = ("image", "image-prompt")
