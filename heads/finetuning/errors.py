"""Errors of end-to-end training."""

from tier4k.cache.errors import TierError


class FinetuningError(TierError):
    """Raised when end-to-end training is not possible with the given options, files or processes."""


class DivergedError(FinetuningError):
    """Raised when losses, features or predictions of a training are not finite."""
