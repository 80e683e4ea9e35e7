"""The error of data sets. Imports no library, so that options can raise it at once."""

from tier4k.cache.errors import TierError


class DataError(TierError):
    """A data set, or a part of it, cannot be used as it is."""
