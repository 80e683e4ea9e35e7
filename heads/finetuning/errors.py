"""Errors of end-to-end training."""

from tier4k.cache.errors import TierError


class FinetuningError(TierError):
    """End-to-end training that is not possible with these options, files or processes."""


class DivergedError(FinetuningError):
    """Training with losses, features or predictions that are not finite."""
