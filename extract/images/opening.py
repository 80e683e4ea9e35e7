"""Opening: from the bytes of an image file to Pillow's image, whose pixels are not decoded yet."""

import io
import struct
import warnings
import zlib

from PIL import Image, UnidentifiedImageError

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.formats import FORMATS, formats_to_try

# Pillow's own threshold for a decompression bomb: a quarter of a GiB at 3 bytes a pixel.
MAX_PIXELS = 89_478_485
# Pillow and the libraries of single formats raise these for damaged input, besides Pillow's own errors.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    MemoryError,
    RuntimeError,
)


def open_image(data: bytes) -> Image.Image:
    """Open an image without decoding its pixels.

    Raises:
        ImageError: The bytes are empty, of an unknown format or one whose library is missing, or too large.
    """
    if not data:
        raise ImageError("the file has zero bytes")
    formats = formats_to_try(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, and of sizes that `decode` refuses
            return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        raise ImageError(f"the image is larger than {MAX_PIXELS:,} pixels (decompression bomb)") from None
    except UnidentifiedImageError:
        raise ImageError(f"the file is not an image of the formats {', '.join(FORMATS)}") from None
    except DECODING_ERRORS as error:
        raise ImageError(f"the image cannot be decoded ({error})") from error
