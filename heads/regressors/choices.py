"""Names that the options of heads take. Imports nothing, so that help shows at once."""

from typing import Literal

RecipeName = Literal["cached", "published"]

HeadName = Literal["mlp", "gated", "bilinear", "ridge", "kernel-ridge", "svr", "ensemble"]
"""The heads of tier4k; users can bring others (see `tier4k.heads.regressors.own_heads`)."""
