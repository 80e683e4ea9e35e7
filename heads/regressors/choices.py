"""The words that options take. Imports nothing, so that the command line can show its help at once."""

from typing import Literal

RecipeName = Literal["cached", "published"]

HeadName = Literal["mlp", "gated", "bilinear", "ridge", "kernel-ridge", "svr", "ensemble"]
