"""Decoding: from the bytes of an image file to an RGB image, and from damaged bytes to a message."""

import io
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tier4k.cache.errors import TierError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Preprocessing enlarges the shorter side: a strip with a height of one pixel would then take gigabytes.
MAX_ASPECT = 100
# Pillow's own threshold for a decompression bomb: a quarter of a GiB at 3 bytes a pixel.
MAX_PIXELS = 89_478_485
# Pillow raises these for damaged input, besides its own errors.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    MemoryError,
)


class ImageError(TierError):
    """An image that cannot be decoded; the message gives the reason without the file's name."""


def decode(data: bytes) -> Image.Image:
    """Decode an image to RGB, as `PIL.Image.open(...).convert("RGB")` does.

    Raises:
        ImageError: The bytes are empty, of an unknown format, truncated, a decompression bomb, or grey of
            more than 8 bits.
    """
    image = _open(data)
    _load(image)
    return image.convert("RGB")


def inspect(data: bytes) -> None:
    """Raise ImageError where `decode` would, in less time.

    JPEGs are decoded at an eighth of their size, which still reads every byte.
    """
    image = _open(data)
    image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
    _load(image)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        ImageError: The system refuses to read it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror})") from error


def require_8_bits(image: Image.Image) -> None:
    """Refuse grey of 16 or 32 bits.

    Pillow's conversion to RGB clips such grey at 255, so nearly all pixels become white.

    Raises:
        ImageError: The image has such grey.
    """
    if image.mode[0] in "IF":
        raise ImageError(
            f"the grey of the image has more than 8 bits (Pillow's mode {image.mode}) and would become "
            "white: save the image with 8 bits"
        )


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ImageError("the file has zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"the image is larger than {MAX_PIXELS:,} pixels (decompression bomb)") from None
    except UnidentifiedImageError:
        raise ImageError(f"the file is not an image of the formats {', '.join(FORMATS)}") from None
    except DECODING_ERRORS as error:
        raise ImageError(f"the image cannot be decoded ({error})") from error
    _require_usable_size(image.width, image.height)
    require_8_bits(image)
    return image


def _require_usable_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image, {width} x {height}, is larger than {MAX_PIXELS:,} pixels (decompression bomb)"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"one side of the image, {width} x {height}, is more than {MAX_ASPECT} times the other"
        )


def _load(image: Image.Image) -> None:
    """Decode the pixels, which `_open` leaves undone."""
    try:
        image.load()
    except DECODING_ERRORS as error:
        problem = "truncated" if "truncated" in str(error) else "cannot be decoded"
        raise ImageError(f"{problem} ({error})") from error
