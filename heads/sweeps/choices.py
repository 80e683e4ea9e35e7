"""Names of the sweeps. Imports nothing, so that help shows at once."""

from typing import Literal

SweepName = Literal["paper"]
