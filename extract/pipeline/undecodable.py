"""Find the images of a data set that cannot be decoded."""

from collections.abc import Iterator

import numpy as np
from joblib import cpu_count

from tier4k.extract.datasets.progress import Progress
from tier4k.extract.images.decode import inspect
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes
from tier4k.extract.inputs.inputs import Inputs
from tier4k.extract.pipeline.threads import map_ahead

AT_ONCE = 64  # images that a thread decodes in one go


def undecodable_images(images: Inputs, progress: Progress) -> Iterator[str]:
    """Yield a sentence about each image that cannot be decoded.

    Args:
        images: The images.
        progress: Called with (images done, images in all).
    """
    starts = range(0, len(images), AT_ONCE)
    blocks = (np.arange(start, min(start + AT_ONCE, len(images))) for start in starts)

    def defects(numbers: np.ndarray, _: object) -> list[str]:
        return [f"{place}: {reason}" for place in images.texts(numbers) if (reason := _defect(place))]

    done = 0
    for found in map_ahead(defects, blocks, cpu_count(), lambda _: 0):
        yield from found
        done = min(done + AT_ONCE, len(images))
        progress(done, len(images))


def _defect(place: str) -> str:
    """Return why an image cannot be decoded; "" if it can."""
    try:
        inspect(read_bytes(place))
    except ImageError as error:
        return str(error)
    return ""
