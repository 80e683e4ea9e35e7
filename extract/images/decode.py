"""Pictures: decoded from bytes, judged, and prepared for an encoder."""

import io
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tier4k.cache.errors import TierError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

MAX_ASPECT = 100  # the shorter side is scaled up to the encoder's: a strip of one pixel's height would become gigabytes

MAX_PIXELS = (
    89_478_485  # Pillow's own threshold for a decompression bomb: a quarter of a GiB at 3 bytes a pixel
)

# What Pillow raises on damaged input, besides its own errors.
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
    """A picture that cannot be decoded; the message says in what way, without the file's name."""


def decode(data: bytes) -> Image.Image:
    """Decode a picture to RGB, as `PIL.Image.open(...).convert("RGB")` does.

    Raises:
        PictureError: The bytes are empty, no known picture format, truncated, a decompression bomb, or grey of more than 8 bits.
    """
    return _load(_open(data)).convert("RGB")


def inspect(data: bytes) -> None:
    """Raise PictureError where `decode` would. JPEGs are decoded at an eighth of their size, which still reads every byte."""
    picture = _open(data)
    picture.draft("RGB", (max(picture.width // 8, 1), max(picture.height // 8, 1)))
    _load(picture)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ImageError("the file has zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"the picture is larger than {MAX_PIXELS:,} pixels (decompression bomb)") from None
    except UnidentifiedImageError:
        raise ImageError(f"not a picture of the formats {', '.join(FORMATS)}") from None
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded ({error})") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(
            f"{picture.width} x {picture.height} is larger than {MAX_PIXELS:,} pixels (decompression bomb)"
        )
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise ImageError(
            f"{picture.width} x {picture.height}: one side is more than {MAX_ASPECT} times the other"
        )
    require_8_bits(picture)
    return picture


def require_8_bits(picture: Image.Image) -> None:
    """Raise PictureError for grey of 16 or 32 bits, which Pillow's conversion to RGB cuts off at 255: nearly all of it becomes white."""
    if picture.mode[0] in "IF":
        raise ImageError(
            f"its grey has more than 8 bits (Pillow's mode {picture.mode}) and would become white: save it with 8 bits"
        )


def _load(picture: Image.Image) -> Image.Image:
    try:
        picture.load()
    except DECODING_ERRORS as error:
        what = "truncated" if "truncated" in str(error) else "cannot be decoded"
        raise ImageError(f"{what} ({error})") from error
    return picture


def read_bytes(path: Path) -> bytes:
    """The file's bytes; PictureError where the system refuses them."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from error
