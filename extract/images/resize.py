"""Resize and crop on the CPU, equal to Pillow's to the bit, in the time that the crop needs."""

import logging
from functools import cache
from threading import Lock

import numpy as np
from PIL import Image, __version__

from tier4k.extract.images.geometry import Geometry, whole
from tier4k.extract.images.resize_order import height_first
from tier4k.extract.images.taps import Taps, taps

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Width and height before and after resizes that are compared with Pillow's; of both orders of the passes.
_COMPARED = (((37, 23), (16, 10)), ((9, 61), (8, 17)), ((11, 13), (29, 31)))

_check_lock = Lock()
_log = logging.getLogger(__name__)


def resize(
    pixels: np.ndarray,
    geometry: Geometry,
    interpolation: str,
) -> np.ndarray:
    """Resize an image and cut its crop out, equal to Pillow's `resize` and then `crop`.

    Only the pixels that the crop needs are computed. Other threads run meanwhile.

    Args:
        pixels: (H, W, 4) uint8, C-contiguous; the fourth byte of a pixel has no meaning.
        geometry: Size after the resize, and the crop.
        interpolation: "bilinear", "bicubic" or "lanczos".

    Returns:
        (3, h, w) uint8.
    """
    height, width = pixels.shape[:2]
    if (width, height) == (geometry.width, geometry.height):
        return crop(pixels, geometry)
    if is_exact():
        return _filled(_resized_part(pixels, geometry, interpolation), geometry)
    image = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGBX", 0, 1)
    resized = image.resize((geometry.width, geometry.height), FILTERS[interpolation])
    return crop(np.asarray(resized), geometry)


def crop(resized: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Cut the crop out of a resized image (H, W, 3 or 4) uint8; return it, (3, h, w) uint8."""
    left, top, right, bottom = geometry.inside
    part = resized[top:bottom, left:right, :3].transpose(2, 0, 1)
    return _filled(np.array(part, order="C"), geometry)


def is_exact() -> bool:
    """Return whether the installed Pillow resizes as tier4k does, by a short comparison.

    If not, Pillow resizes. The first call compiles the resize; call it before threads start that resize, so
    that they need not wait for each other.
    """
    with _check_lock:
        return _equals_pillow()


@cache
def _equals_pillow() -> bool:
    for (width, height), (new_width, new_height) in _COMPARED:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
        image = Image.fromarray(pixels[..., :3].copy())
        for name, number in FILTERS.items():
            found = _resized_part(pixels, whole(new_width, new_height), name)
            expected = np.asarray(image.resize((new_width, new_height), number))
            if not np.array_equal(found.transpose(1, 2, 0), expected):
                _log.warning(
                    "images are resized by Pillow %s: the faster resize differs from it", __version__
                )
                return False
    return True


def _resized_part(
    pixels: np.ndarray,
    geometry: Geometry,
    interpolation: str,
) -> np.ndarray:
    """Return the part of the crop (3, h, w) that is inside the resized image."""
    left, top, right, bottom = geometry.inside
    height, width = pixels.shape[:2]
    columns = taps(width, geometry.width, interpolation, left, right)
    rows = taps(height, geometry.height, interpolation, top, bottom)
    packed = pixels.view(np.int32)[..., 0]
    if height_first((width, height), (geometry.width, geometry.height)):
        return _height_and_width(packed, columns, rows)
    return _width_and_height(packed, columns, rows)


def _width_and_height(
    packed: np.ndarray,
    columns: Taps,
    rows: Taps,
) -> np.ndarray:
    from tier4k.extract.images.resize_kernel import resize_height, resize_width  # Numba takes long to import

    lines = _new_lines(rows.end - rows.start, len(columns))
    resize_width(packed, rows.start, columns.starts, columns.counts, columns.weights, lines)
    planes = np.empty((3, len(rows), len(columns)), np.uint8)
    resize_height(lines.view(np.uint8), rows.start, rows.starts, rows.counts, rows.weights, planes)
    return planes


def _height_and_width(
    packed: np.ndarray,
    columns: Taps,
    rows: Taps,
) -> np.ndarray:
    from tier4k.extract.images.resize_kernel import resize_height_of_pixels, resize_width

    short = np.empty((len(rows), columns.end - columns.start), np.int32)
    resize_height_of_pixels(packed, columns.start, rows.starts, rows.counts, rows.weights, short)
    lines = _new_lines(len(rows), len(columns))
    resize_width(short, 0, columns.starts - columns.start, columns.counts, columns.weights, lines)
    return np.ascontiguousarray(lines.view(np.uint8)[..., : len(columns)].transpose(1, 0, 2))


def _new_lines(rows: int, columns: int) -> np.ndarray:
    """Return memory for rows of three colours, in words of four columns."""
    return np.empty((rows, 3, -(-columns // 4)), np.int32)


def _filled(part: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the crop with its fill beside the part (3, h, w) that is inside the image."""
    if geometry.inside == geometry.box:
        return part
    width, height = geometry.crop_size
    filled = np.empty((3, height, width), np.uint8)
    filled[:] = np.array(geometry.fill, np.uint8)[:, None, None]
    left = geometry.inside[0] - geometry.box[0]
    top = geometry.inside[1] - geometry.box[1]
    filled[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return filled
