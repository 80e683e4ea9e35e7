"""JPEGs: decoded by libjpeg-turbo without Pillow, where that surely gives the same pixels."""

import struct

import numpy as np
import simplejpeg

from tier4k.extract.images.decode import is_usable_size
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.header import JPEG_PIXELS, header_of, jpeg_segments
from tier4k.extract.images.opening import open_image

JPEG_MARK = b"\xff\xd8\xff"

# Segments that Pillow does not look into, or reads as libjpeg does: tables, restarts, comments.
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, with Huffman codes
_JFIF = 0xE0
_JFIF_LENGTH = 14
_APPLICATIONS = range(0xE0, 0xF0)


def decode_jpeg(data: bytes) -> np.ndarray | None:
    """Return the pixels (H, W, 4) uint8 of a JPEG; None where Pillow has to decode or to refuse it."""
    if not _is_usual(data):
        return None
    try:
        return simplejpeg.decode_jpeg(data, "RGBX", strict=True)
    except (ValueError, RuntimeError, MemoryError):
        return None  # also for what Pillow tolerates


def _is_usual(data: bytes) -> bool:
    """Return whether a JPEG is upright, of a usable size, and without what Pillow might refuse."""
    segments = list(jpeg_segments(data))
    if not segments or segments[-1][0] != JPEG_PIXELS or segments[-1][2] > len(data):
        return False
    frames = 0
    is_known = True
    for mark, start, end in segments[:-1]:
        if mark in _FRAMES:
            frames += 1
            if not _is_usual_frame(data[start:end]):
                return False
        elif mark in _APPLICATIONS:
            is_known &= mark == _JFIF and data.startswith(b"JFIF\0", start) and end - start >= _JFIF_LENGTH
        elif mark not in _HARMLESS:
            return False
    return frames == 1 and (is_known or _is_plain_to_pillow(data))


def _is_usual_frame(frame: bytes) -> bool:
    """Return whether a frame has 8 bits, one or three colours and a usable size."""
    if len(frame) < 6:
        return False
    bits, height, width, colours = struct.unpack_from(">BHHB", frame)
    return bits == 8 and colours in (1, 3) and is_usable_size(width, height) and width * height > 0


def _is_plain_to_pillow(data: bytes) -> bool:
    """Return whether Pillow opens a JPEG with data of applications, as one upright image."""
    try:
        image = open_image(data)
    except ImageError:
        return False
    return image.format == "JPEG" and header_of(image, data).is_plain
