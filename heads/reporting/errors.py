"""The error of this package."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.cache.errors import TierError


class ReportError(TierError):
    """Raised when runs cannot be compared, tabulated or reported as requested."""


def require_runs(folders: Sequence[Path]) -> Sequence[Path]:
    """Return the folders of runs; refuse an empty list.

    Raises:
        ReportError: There is no folder.
    """
    if not folders:
        raise ReportError("there is no run to show: pass one run or more, for example runs/*")
    return folders
