"""The error of this package."""

from tier4k.cache.errors import TierError


class ReportError(TierError):
    """Runs that cannot be compared, tabulated or reported as asked."""
