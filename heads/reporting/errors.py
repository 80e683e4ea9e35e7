"""The error of this package."""

from tier4k.cache.errors import TierError


class ReportError(TierError):
    """Raised when runs cannot be compared, tabulated or reported as requested."""
