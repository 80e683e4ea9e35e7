"""Images that are turned by EXIF data or transparent, and what a person sees of them, computed with numpy."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATIONS = range(1, 9)

# How a camera stores an upright image (H, W, C) in each orientation (Exif 2.32, section 4.6.4, tag 274).
STORE = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),  # against the clock: the viewer turns it with the clock
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}


def coloured(
    height: int = 24,
    width: int = 37,
    channels: int = 3,
) -> np.ndarray:
    """An image (height, width, channels) uint8 that no turn leaves as it is."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 5 % 256, y * 9 % 256, x * y % 256, (x * 11 + y * 3) % 256]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 over white with opacity (H, W) uint8, as floats."""
    share = alpha[..., None] / 255
    return pixels * share + 255 * (1 - share)


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """EXIF data with two tags, in either order of bytes; the kind of the orientation is 3 (16 bits) or 4."""
    mark = {"<": b"II", ">": b"MM"}[order]
    value = struct.pack(order + "HH" if kind == 3 else order + "I", orientation, *[0] * (kind == 3))
    resolution = struct.pack(order + "HHIHH", 296, 3, 1, 2, 0)
    tags = struct.pack(order + "HHI", 274, kind, 1) + value + resolution
    return mark + struct.pack(order + "HIH", 42, 8, 2) + tags + bytes(4)


def file_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file (PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    samples: np.ndarray,
    bits: int,
    colour_type: int,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG file with samples (H, W) or (H, W, C) of so many bits, and chunks before and after the pixels."""
    height, width = samples.shape[:2]
    weights = 2 ** np.arange(bits)[::-1]
    lines = []
    for row in samples.reshape(height, -1).astype(int):
        lines.append(b"\0" + np.packbits((row[:, None] // weights % 2).astype(np.uint8)).tobytes())
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        before,
        png_chunk(b"IDAT", zlib.compress(b"".join(lines))),
        after,
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
