"""The error of an image."""

from tier4k.cache.errors import TierError


class ImageError(TierError):
    """An image that cannot be used; the message gives the reason without the image's place."""
