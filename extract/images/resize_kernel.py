"""Loops of the two passes of a resize. Importing this module compiles them, or loads them from Numba's cache.

Pillow rounds to 8 bits after each pass, so the order of the passes matters. Sums of 32 bits do not overflow,
which `taps` checks.
"""

import numpy as np
from numba import types

from tier4k.extract.images.compile import compiled
from tier4k.extract.images.taps import HALF, WEIGHT_BITS

# Rows whose pixels of one column are next to each other, so that a tap is a few vector operations.
BLOCK = 32
TILE = 16  # columns of a transposed tile: one line of the cache

_VECTOR = types.Array(types.int32, 1, "C", readonly=True)
_MATRIX = types.Array(types.int32, 2, "C", readonly=True)
_TAPS = (_VECTOR, _VECTOR, _MATRIX)
_LINES = types.Array(types.uint8, 3, "C", readonly=True)
_NEW_LINES = types.Array(types.uint8, 3, "C")
_NEW_WORDS = types.Array(types.int32, 3, "C")
_NEW_PIXELS = types.Array(types.int32, 2, "C")


@compiled(types.void(_MATRIX, types.int64, types.int64, types.int64, _NEW_PIXELS), nogil=True)
def _transpose(
    pixels: np.ndarray,
    top: int,
    left: int,
    rows: int,
    block: np.ndarray,
) -> None:
    """Write rows from `top` and columns from `left` of pixels (H, W) int32 into a block (columns, BLOCK)."""
    columns = len(block)
    whole_tiles = columns // TILE * TILE
    for start in range(0, whole_tiles, TILE):
        for row in range(rows):
            for column in range(TILE):
                block[start + column, row] = pixels[top + row, left + start + column]
    for column in range(whole_tiles, columns):
        for row in range(rows):
            block[column, row] = pixels[top + row, left + column]


@compiled(types.void(_MATRIX, types.int64, *_TAPS, _NEW_WORDS), nogil=True)
def resize_width(
    pixels: np.ndarray,
    top: int,
    starts: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    lines: np.ndarray,
) -> None:
    """Resize the rows of an image from `top` to another width.

    Args:
        pixels: (H, W) int32: red in the lowest byte, then green and blue.
        top: First row that is resized.
        starts, counts, weights: Taps of the w columns.
        lines: (rows, 3, ceil(w / 4)) int32, is filled: the first w bytes of each line are its columns.
    """
    height = lines.shape[0]
    width = len(starts)
    left = starts[0]
    span = starts[width - 1] + counts[width - 1] - left
    block = np.zeros((span, BLOCK), np.int32)
    red = np.empty(BLOCK, np.int32)
    green = np.empty(BLOCK, np.int32)
    blue = np.empty(BLOCK, np.int32)
    reds = np.zeros(BLOCK, np.int32)
    greens = np.zeros(BLOCK, np.int32)
    blues = np.zeros(BLOCK, np.int32)
    for first in range(0, height, BLOCK):
        rows = min(BLOCK, height - first)
        _transpose(pixels, top + first, left, rows, block)
        for column in range(width):
            red[:] = HALF
            green[:] = HALF
            blue[:] = HALF
            start = starts[column] - left
            for tap in range(counts[column]):
                weight = weights[column, tap]
                values = block[start + tap]
                for row in range(BLOCK):
                    value = values[row]
                    red[row] += weight * (value & 255)
                    green[row] += weight * ((value >> 8) & 255)
                    blue[row] += weight * ((value >> 16) & 255)
            # Four columns are stored at a time: a store of one byte of each row would take most of the time.
            shift = 8 * (column % 4)
            for row in range(BLOCK):
                reds[row] |= min(max(red[row] >> WEIGHT_BITS, 0), 255) << shift
                greens[row] |= min(max(green[row] >> WEIGHT_BITS, 0), 255) << shift
                blues[row] |= min(max(blue[row] >> WEIGHT_BITS, 0), 255) << shift
            if shift == 24 or column == width - 1:
                for row in range(rows):
                    line = lines[first + row]
                    line[0, column // 4] = reds[row]
                    line[1, column // 4] = greens[row]
                    line[2, column // 4] = blues[row]
                reds[:] = 0
                greens[:] = 0
                blues[:] = 0


@compiled(types.void(_LINES, types.int64, *_TAPS, _NEW_LINES), nogil=True)
def resize_height(
    lines: np.ndarray,
    top: int,
    starts: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    planes: np.ndarray,
) -> None:
    """Resize rows that have their final width to another height.

    Args:
        lines: (rows, 3, v) uint8 with v >= w.
        top: Number of the first line in the image.
        starts, counts, weights: Taps of the rows.
        planes: (3, h, w) uint8, is filled.
    """
    _, height, width = planes.shape
    stored = lines.shape[2]
    sums = np.empty(3 * stored, np.int32)
    for row in range(height):
        sums[:] = HALF
        start = starts[row] - top
        for tap in range(counts[row]):
            weight = weights[row, tap]
            line = lines[start + tap].reshape(-1)
            for place in range(3 * stored):
                sums[place] += weight * np.int32(line[place])
        for channel in range(3):
            plane = planes[channel, row]
            for column in range(width):
                plane[column] = min(max(sums[channel * stored + column] >> WEIGHT_BITS, 0), 255)


@compiled(types.void(_MATRIX, types.int64, *_TAPS, _NEW_PIXELS), nogil=True)
def resize_height_of_pixels(
    pixels: np.ndarray,
    left: int,
    starts: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    resized: np.ndarray,
) -> None:
    """Resize the columns of an image from `left` to another height, before its width.

    Args:
        pixels: (H, W) int32: red in the lowest byte, then green and blue.
        left: First column that is resized.
        starts, counts, weights: Taps of the rows.
        resized: (h, columns) int32, is filled.
    """
    height, width = resized.shape
    red = np.empty(width, np.int32)
    green = np.empty(width, np.int32)
    blue = np.empty(width, np.int32)
    for row in range(height):
        red[:] = HALF
        green[:] = HALF
        blue[:] = HALF
        for tap in range(counts[row]):
            weight = weights[row, tap]
            line = pixels[starts[row] + tap]
            for column in range(width):
                value = line[left + column]
                red[column] += weight * (value & 255)
                green[column] += weight * ((value >> 8) & 255)
                blue[column] += weight * ((value >> 16) & 255)
        for column in range(width):
            low = min(max(red[column] >> WEIGHT_BITS, 0), 255)
            middle = min(max(green[column] >> WEIGHT_BITS, 0), 255)
            high = min(max(blue[column] >> WEIGHT_BITS, 0), 255)
            resized[row, column] = low | (middle << 8) | (high << 16)
