"""The order of the two passes of Pillow's resize, between which it rounds to 8 bits."""

from functools import cache

import numpy as np
from PIL import Image

# Of an image that Pillow resizes in height first if it ever does.
_TALL, _SHORT = (8, 64), (6, 8)


def height_first(
    size: tuple[int, int],
    resized: tuple[int, int],
) -> bool:
    """Return whether Pillow resizes the height of an image before its width.

    Args:
        size: Width and height of the image.
        resized: Width and height after the resize.
    """
    removed_columns, removed_rows = size[0] - resized[0], size[1] - resized[1]
    return removed_rows > max(2 * removed_columns, 0) and _is_height_ever_first()


@cache
def _is_height_ever_first() -> bool:
    """Return whether the installed Pillow sometimes starts with the height, as since its version 13."""
    pixels = np.random.default_rng(0).integers(0, 256, (*reversed(_TALL), 3), np.uint8)
    image = Image.fromarray(pixels)
    found = image.resize(_SHORT, Image.Resampling.BICUBIC)
    width_only = image.resize((_SHORT[0], _TALL[1]), Image.Resampling.BICUBIC)
    return found.tobytes() != width_only.resize(_SHORT, Image.Resampling.BICUBIC).tobytes()
