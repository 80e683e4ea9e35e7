"""Loops that undo the filters of PNG's lines.

Importing this module compiles them, or loads them from Numba's cache.
"""

import numpy as np
from numba import types

from tier4k.extract.images.compile import compiled

SIGN = 63  # shift of a 64-bit number that leaves its sign

_LINES = types.Array(types.uint8, 2, "C", readonly=True)
_PIXELS = types.Array(types.int32, 2, "C")


@compiled(nogil=True)
def _packed(red: int, green: int, blue: int) -> int:
    return (red & 255) | ((green & 255) << 8) | ((blue & 255) << 16)


@compiled(nogil=True)
def _copy(line: np.ndarray, here: np.ndarray) -> None:
    for column in range(len(here)):
        here[column] = _packed(line[3 * column], line[3 * column + 1], line[3 * column + 2])


@compiled(nogil=True)
def _add_left(line: np.ndarray, here: np.ndarray) -> None:
    red = green = blue = 0
    for column in range(len(here)):
        red += line[3 * column]
        green += line[3 * column + 1]
        blue += line[3 * column + 2]
        here[column] = _packed(red, green, blue)


@compiled(nogil=True)
def _add_above(line: np.ndarray, above: np.ndarray, here: np.ndarray) -> None:
    for column in range(len(here)):
        up = above[column]
        red = up + line[3 * column]
        green = (up >> 8) + line[3 * column + 1]
        blue = (up >> 16) + line[3 * column + 2]
        here[column] = _packed(red, green, blue)


@compiled(nogil=True)
def _add_mean(line: np.ndarray, above: np.ndarray, here: np.ndarray) -> None:
    red = green = blue = 0
    for column in range(len(here)):
        up = above[column]
        red = (((red + (up & 255)) >> 1) + line[3 * column]) & 255
        green = (((green + ((up >> 8) & 255)) >> 1) + line[3 * column + 1]) & 255
        blue = (((blue + (up >> 16)) >> 1) + line[3 * column + 2]) & 255
        here[column] = _packed(red, green, blue)


@compiled(nogil=True)
def _paeth(left: int, up: int, corner: int) -> int:
    """Return the one of three bytes that is nearest to left + up - corner; of equals, the first.

    That is the smaller of `left` and `up` if the larger is at most 3 corner - left - up, the larger if the
    smaller is at least as much, and `corner` otherwise. Masks of a sign (0 or -1) choose without branches,
    which processors would often guess wrongly.
    """
    bound = 3 * corner - left - up
    swap = (left ^ up) & ((left - up) >> SIGN)
    smaller = up ^ swap
    larger = left ^ swap
    nearest = smaller ^ ((smaller ^ corner) & ((bound - larger) >> SIGN))
    return larger ^ ((larger ^ nearest) & ((smaller - bound) >> SIGN))


@compiled(nogil=True)
def _add_paeth(line: np.ndarray, above: np.ndarray, here: np.ndarray) -> None:
    red = green = blue = 0
    corner = 0
    for column in range(len(here)):
        up = above[column]
        red = (_paeth(red, up & 255, corner & 255) + line[3 * column]) & 255
        green = (_paeth(green, (up >> 8) & 255, (corner >> 8) & 255) + line[3 * column + 1]) & 255
        blue = (_paeth(blue, up >> 16, corner >> 16) + line[3 * column + 2]) & 255
        here[column] = red | (green << 8) | (blue << 16)
        corner = up


@compiled(types.boolean(_LINES, _PIXELS), nogil=True)
def unfilter(lines: np.ndarray, pixels: np.ndarray) -> bool:
    """Undo the filters of an RGB image (PNG specification, section 9.2); return whether all are known.

    Args:
        lines: (H, 1 + 3 W) uint8: the number of a filter, and filtered pixels.
        pixels: (H, W) int32, is filled: red in the lowest byte, then green and blue.
    """
    height, width = pixels.shape
    above = np.zeros(width, np.int32)
    for row in range(height):
        line = lines[row, 1:]
        here = pixels[row]
        kind = lines[row, 0]
        if kind == 0:
            _copy(line, here)
        elif kind == 1:
            _add_left(line, here)
        elif kind == 2:
            _add_above(line, above, here)
        elif kind == 3:
            _add_mean(line, above, here)
        elif kind == 4:
            _add_paeth(line, above, here)
        else:
            return False
        above = here
    return True
