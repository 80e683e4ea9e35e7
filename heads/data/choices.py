"""Names of fusion methods and split rules. Imports nothing, so that help shows at once."""

from typing import Literal

Method = Literal["nr", "fr", "pr"]

SplitRule = Literal["prompt", "random", "generator", "published", "dataset"]
