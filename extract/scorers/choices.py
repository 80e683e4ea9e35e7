"""Names of the scorers. Imports nothing, so that help shows at once."""

from typing import Literal

ScorerName = Literal["clipscore", "blipscore", "imagereward", "pickscore"]
