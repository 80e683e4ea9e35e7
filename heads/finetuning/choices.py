"""Names that options of end-to-end training take. Imports nothing, so that help shows at once."""

from typing import Literal

FinetunedPart = Literal["none", "image", "text", "all"]  # beside "last:N"

Device = Literal["auto", "cpu"]
