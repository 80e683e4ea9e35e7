"""Names of the sweeps. This module imports nothing, so that the program shows its help at once."""

from typing import Literal

SweepName = Literal["paper"]
