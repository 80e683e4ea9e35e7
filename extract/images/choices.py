"""Names that options for images take. Imports nothing, so that help shows at once."""

from typing import Literal

PreprocessingName = Literal["reference", "native"]
ImageSize = int | Literal["full"]
