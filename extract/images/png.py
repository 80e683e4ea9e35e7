"""PNGs: decoded without Pillow where that surely gives the same pixels: plain RGB of 8 bits."""

import struct

import numpy as np
from isal import isal_zlib
from PIL import Image

from tier4k.extract.images.decode import open_usable
from tier4k.extract.images.header import header_of, png_chunks

_USUAL_KIND = (8, 2, 0, 0, 0)  # bits, RGB, compression, filters, not interlaced
_USUAL_STREAM = 0x78  # zlib's data with a window of 32 KiB


def decode_png(data: bytes) -> np.ndarray | None:
    """Return the pixels (H, W, 4) uint8 of a PNG; None where Pillow has to decode or to refuse it.

    Pillow reads all in front of the pixels, and checks it.

    Raises:
        ImageError: Pillow cannot open the image, or `decode` does not take its size.
    """
    with open_usable(data) as image:
        width, height = image.size
        stream = _stream(data) if _is_usual(image, data) else b""
    lines = _inflated(stream, height * (1 + 3 * width))
    return None if lines is None else _unfiltered(lines.reshape(height, -1), width)


def _is_usual(image: Image.Image, data: bytes) -> bool:
    is_still = image.format == "PNG" and not getattr(image, "is_animated", True)
    is_one_tile = [tile.extents for tile in getattr(image, "tile", ())] == [(0, 0, *image.size)]
    is_usual_kind = struct.unpack_from("5B", data, 24) == _USUAL_KIND
    return is_still and is_one_tile and is_usual_kind and header_of(image, data).is_plain


def _stream(data: bytes) -> bytes:
    """Return the compressed pixels; nothing if they are damaged, or other chunks are between or behind them.

    Pillow ignores the checksum of the pixels. Here it keeps damaged streams away from ISA-L, which decodes
    some that zlib refuses: it tolerates codes for distances that are incomplete.
    """
    view = memoryview(data)
    parts: list[memoryview] = []
    for kind, start, end in png_chunks(data):
        if kind != b"IDAT":
            if parts:
                return b"".join(parts) if kind == b"IEND" else b""
        elif isal_zlib.crc32(view[start - 4 : end]).to_bytes(4, "big") == view[end : end + 4]:
            parts.append(view[start:end])
        else:
            return b""
    return b""


def _inflated(stream: bytes, size: int) -> np.ndarray | None:
    """Return the bytes (size,) uint8 of a compressed stream; None if it is damaged or has another size."""
    if not size or not stream or stream[0] != _USUAL_STREAM:
        return None
    inflater = isal_zlib.decompressobj()
    try:
        lines = inflater.decompress(stream, size + 1)
    except (isal_zlib.error, MemoryError):  # type: ignore[misc]  # isal's stubs call the class an instance
        return None
    is_whole = inflater.eof and not inflater.unused_data and len(lines) == size
    return np.frombuffer(lines, np.uint8) if is_whole else None


def _unfiltered(lines: np.ndarray, width: int) -> np.ndarray | None:
    """Return the pixels (H, W, 4) uint8 of filtered lines (H, 1 + 3 W); None if a filter is unknown."""
    from tier4k.extract.images.png_kernel import unfilter  # Numba takes long to import

    pixels = np.empty((len(lines), width, 4), np.uint8)
    return pixels if unfilter(lines, pixels.view(np.int32)[..., 0]) else None
