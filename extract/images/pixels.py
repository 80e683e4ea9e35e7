"""Pixels of images, as threads decode them: by fast decoders where they are exact, else by Pillow."""

import numpy as np
from PIL import Image

from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.fast_decoders import fast_decoder
from tier4k.extract.images.places import read_bytes

Pixels = np.ndarray
"""(H, W, 4) uint8, C-contiguous: red, green, blue, and a byte without meaning."""


def read_pixels(place: str, key: bytes) -> Pixels:
    """Read and decode an image that was checked before.

    Features of the pixels are stored under the key, so the bytes must be those that the key identifies.

    Args:
        place: Place of the image.
        key: Content key of the image.

    Raises:
        ImageError: The image cannot be read or decoded, or has changed since its key was computed.
    """
    data = read_bytes(place)
    if content_key(data) != key:
        raise ImageError("the file changed after it was checked")
    return decode_pixels(data)


def decode_pixels(data: bytes) -> Pixels:
    """Return the pixels of the image that `decode` returns.

    Raises:
        ImageError: As `decode`.
    """
    decoder = fast_decoder(data)
    pixels = decoder(data) if decoder else None
    return pixels_of(decode(data)) if pixels is None else pixels


def pixels_of(image: Image.Image) -> Pixels:
    """Return the pixels of an RGB image."""
    return np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)
