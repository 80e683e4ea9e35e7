"""Decoding: from the bytes of an image file to an upright RGB image, and from damaged bytes to a message."""

from PIL import Image, ImageFile

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.header import UPRIGHT, ImageHeader, header_of
from tier4k.extract.images.opening import DECODING_ERRORS, MAX_PIXELS, open_image

# Preprocessing enlarges the shorter side: a strip with a height of one pixel would then take gigabytes.
MAX_ASPECT = 100

# How pixels are moved to undo each EXIF orientation (Exif 2.32, section 4.6.4, tag 274).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Pillow's raw modes of a PNG whose values are scaled to 8 bits.
BITS_OF_RAW_MODE = {"L;2": 2, "L;4": 4, "RGB;16B": 16}


def decode(data: bytes) -> Image.Image:
    """Decode an image to RGB, turn it upright by its EXIF orientation, and compose it over white.

    Images that are upright and opaque are decoded as by `PIL.Image.open(...).convert("RGB")`.

    Raises:
        ImageError: The bytes are empty, of an unknown format, truncated, a decompression bomb, or grey of
            more than 8 bits.
    """
    image = open_usable(data)
    header = header_of(image, data)
    _load(image)
    return _as_shown(image, header)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image in memory as `decode` returns it from its file.

    Raises:
        ImageError: The image cannot be decoded, or is grey of more than 8 bits.
    """
    _require_8_bits(image)
    _load(image)  # Pillow turns a TIFF image while it loads it, and finds EXIF data at the end of a PNG
    return _as_shown(image, header_of(image))


def inspect(data: bytes) -> None:
    """Raise ImageError where `decode` would, in less time.

    JPEGs are decoded at an eighth of their size, which still reads every byte.
    """
    image = open_usable(data)
    image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
    _load(image)


def _require_8_bits(image: Image.Image) -> None:
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


def open_usable(data: bytes) -> Image.Image:
    """Open an image that `decode` takes, without decoding its pixels.

    Raises:
        ImageError: As `decode`, for what is in front of the pixels.
    """
    image = open_image(data)
    _require_usable_size(image.width, image.height)
    _require_8_bits(image)
    return image


def is_usable_size(width: int, height: int) -> bool:
    """Return whether `decode` takes images of this size."""
    return width * height <= MAX_PIXELS and max(width, height) <= MAX_ASPECT * min(width, height)


def _require_usable_size(width: int, height: int) -> None:
    if is_usable_size(width, height):
        return
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image, {width} x {height}, is larger than {MAX_PIXELS:,} pixels (decompression bomb)"
        )
    raise ImageError(f"one side of the image, {width} x {height}, is more than {MAX_ASPECT} times the other")


def _load(image: Image.Image) -> None:
    """Decode the pixels, which opening leaves undone."""
    _scale_transparent_colour(image)
    try:
        image.load()
    except DECODING_ERRORS as error:
        problem = "truncated" if "truncated" in str(error) else "cannot be decoded"
        raise ImageError(f"{problem} ({error})") from error


def _scale_transparent_colour(image: Image.Image) -> None:
    """Give the transparent colour of a PNG with 2, 4 or 16 bits the 8 bits that its pixels will have.

    Pillow scales the pixels alone. Colours of 16 bits with equal high bytes become one.
    """
    colour = image.info.get("transparency")
    if not isinstance(image, ImageFile.ImageFile) or isinstance(colour, bytes | None):
        return
    raw_mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
    bits = BITS_OF_RAW_MODE.get(str(raw_mode))
    if bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif bits:
        image.info["transparency"] = colour * 255 // (2**bits - 1)


def _as_shown(image: Image.Image, header: ImageHeader) -> Image.Image:
    rgb = _on_white(image) if header.is_transparent else image.convert("RGB")
    if header.orientation == UPRIGHT or image.format == "TIFF":
        return rgb
    return rgb.transpose(TURNS[header.orientation])


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # Pillow has no direct way
    layer = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
