"""Headers of images: how an image is turned, and whether it is transparent."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.opening import open_image

UPRIGHT = 1
JPEG_PIXELS = 0xDA
JPEG_APP1 = 0xE1
PNG_MARK = b"\x89PNG\r\n\x1a\n"
ORIENTATION_TAG = 0x0112
ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})

_EXIF_MARK = b"Exif\0\0"
_JPEG_PIXELS_MARK, _JPEG_APP1_MARK = 0xFF00 | JPEG_PIXELS, 0xFF00 | JPEG_APP1
_read_segment = struct.Struct(">HH").unpack_from  # mark and length
_EXIF_INTEGERS = {3: "H", 4: "I"}  # types of a tag's value
_BMP_HEADER_SIZE = b"\x28\0\0\0"  # of the usual header
_BMP_RGB = b"\x18\0"  # bits of a pixel
_PNG_ALPHA = (b"\x04", b"\x06")  # types of colour: grey with alpha, RGB with alpha
_PNG_END = b"IEND"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_TEXT_EXIF = "Raw profile type exif"  # the form of ImageMagick before 7.0.8


@dataclass(frozen=True)
class ImageHeader:
    """Properties of an image that change how its pixels are shown.

    Attributes:
        orientation: EXIF orientation, 1 to 8; 1 for an upright image.
        is_transparent: Whether the image has an alpha channel or a transparent colour, even if every pixel is
            opaque.
    """

    orientation: int = UPRIGHT
    is_transparent: bool = False

    @property
    def is_turned(self) -> bool:
        """Whether the pixels are stored in another orientation than they are shown."""
        return self.orientation != UPRIGHT

    @property
    def is_plain(self) -> bool:
        """Whether the pixels are shown as they are stored."""
        return not self.is_turned and not self.is_transparent


PLAIN = ImageHeader()


def read_header(data: bytes) -> ImageHeader:
    """Return the header of an image from the bytes of its file; bytes that are no image have a plain header.

    Pixels are not decoded, except for JPEG XL, whose library cannot read a header alone.
    """
    if _is_surely_plain(data):
        return PLAIN
    try:
        return header_of(open_image(data), data)
    except ImageError:
        return PLAIN


def header_of(image: Image.Image, data: bytes = b"") -> ImageHeader:
    """Return the header of an image that Pillow opened.

    Args:
        image: The image.
        data: The bytes of its file, for EXIF data after the pixels of a PNG; Pillow finds them in loading it.
    """
    return ImageHeader(_orientation(image, data), _is_transparent(image))


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "TIFF":
        return _valid_orientation(getattr(image, "tag_v2", {}).get(ORIENTATION_TAG))
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return UPRIGHT  # the decoder has turned it, unless it returned the pixels of a JPEG inside
    exif = image.info.get("exif") or _exif_in_text(image) or _exif_chunk(data)
    return (_exif_orientation(exif) or UPRIGHT) if isinstance(exif, bytes) else UPRIGHT


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def _exif_orientation(exif: bytes) -> int | None:
    """Return the orientation in EXIF data: 1 if there is none; None if the data end before it can be found.

    The data are a TIFF header and a list of tags (Exif 2.32, section 4.6), with or without the mark of JPEG.
    """
    exif = exif.removeprefix(_EXIF_MARK)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for number in range(count):
            tag, kind, _ = struct.unpack_from(order + "HHI", exif, start + 2 + 12 * number)
            if tag == ORIENTATION_TAG and kind in _EXIF_INTEGERS:
                value = struct.unpack_from(order + _EXIF_INTEGERS[kind], exif, start + 10 + 12 * number)
                return _valid_orientation(*value)
    except struct.error:
        return None
    return UPRIGHT


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def _exif_in_text(image: Image.Image) -> bytes:
    """Return EXIF data that a PNG holds as hexadecimal text, after three lines with their name and length."""
    text = image.info.get(_PNG_TEXT_EXIF, "")
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except (AttributeError, ValueError):
        return b""


def _exif_chunk(data: bytes) -> bytes:
    """Return the EXIF data of a PNG, which may be after the pixels; empty if there are none."""
    if not data.startswith(PNG_MARK):
        return b""
    for kind, start, end in png_chunks(data):
        if kind == b"eXIf":
            return data[start:end]
    return b""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each chunk of a PNG: length, name, content, four bytes of checksum."""
    start = len(PNG_MARK)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start + 8, start + 8 + length
        if kind == _PNG_END:
            return
        start += 12 + length


def _is_surely_plain(data: bytes) -> bool:
    """Return whether an image is upright and opaque, in a small part of the time that Pillow needs.

    Whatever is unusual is not sure, and left to Pillow.
    """
    if data.startswith(b"\xff\xd8"):
        return _is_surely_plain_jpeg(data)
    if data.startswith(PNG_MARK):
        return _is_surely_plain_png(data)
    is_rgb_bmp = data[:2] == b"BM" and data[14:18] == _BMP_HEADER_SIZE and data[28:30] == _BMP_RGB
    return is_rgb_bmp or data[8:16] == b"WEBPVP8 "  # without the chunk that announces alpha and EXIF data


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the mark of each segment of a JPEG, and the start and end of its content.

    A segment has the byte 255, a mark, a length of two bytes, and the content. The last one is in front of
    the pixels (`JPEG_PIXELS`); a file without it is damaged or unusual.
    """
    start = 2
    while start + 4 <= len(data):
        first, mark, length = struct.unpack_from(">BBH", data, start)
        if first != 0xFF or mark < 0xC0 or mark == 0xFF or 0xD0 <= mark <= 0xD9 or length < 2:
            return  # no segment with a length
        yield mark, start + 4, start + 2 + length
        if mark == JPEG_PIXELS:
            return
        start += 2 + length


def _is_surely_plain_jpeg(data: bytes) -> bool:
    # Every image that is hashed passes here, so the segments are not taken from the slower `jpeg_segments`.
    start, last = 2, len(data) - 4
    while start <= last:
        mark, length = _read_segment(data, start)
        if mark == _JPEG_PIXELS_MARK:
            return length >= 2
        if not 0xFFC0 <= mark < 0xFFFF or 0xFFD0 <= mark <= 0xFFD9 or length < 2:
            return False
        end = start + 2 + length
        is_exif = mark == _JPEG_APP1_MARK and data.startswith(_EXIF_MARK, start + 4)
        if is_exif and _exif_orientation(data[start + 4 : end]) != UPRIGHT:
            return False
        start = end
    return False


def _is_surely_plain_png(data: bytes) -> bool:
    if data[25:26] in _PNG_ALPHA:
        return False
    for kind, start, end in png_chunks(data):
        if kind == _PNG_END:
            return True
        if kind == b"tRNS":
            return False
        if kind == b"eXIf" and _exif_orientation(data[start:end]) != UPRIGHT:
            return False
        if kind in _PNG_TEXTS and data.startswith(_PNG_TEXT_EXIF.encode(), start):
            return False
    return False
