"""A run of a sweep before it is fitted, for lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep before it is fitted.

    Attributes:
        id: Name of the run's folder.
        exists: Whether the run is on disk.
        fits: Number of heads of the run.
        values: The value of each option of the grid; of equal combinations, the first.
    """

    id: str
    exists: bool
    fits: int
    values: Mapping[str, Any]
