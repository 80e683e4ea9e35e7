"""Names of fusion methods, streams and split rules. Imports nothing, so that help shows at once."""

from typing import Literal

Method = Literal["nr", "fr", "pr"]

Stream = Literal["text", "image", "image-prompt"]

SplitRule = Literal["prompt", "random", "generator", "published"]
