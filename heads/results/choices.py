"""Which fitted heads a run keeps. Imports nothing, so that help shows at once."""

from typing import Literal

KeptModels = Literal["all", "first", "none"]
