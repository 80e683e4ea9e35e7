"""Cut the inputs of an extraction into units."""

from collections.abc import Iterator, Sequence

import numpy as np

from tier4k.extract.inputs.inputs import Inputs, Pairs
from tier4k.extract.pipeline.missing_inputs import Work
from tier4k.extract.pipeline.units import Unit


def cut_units(works: Sequence[Work], size: int) -> Iterator[Unit]:
    """Yield the units of encoders that read together.

    Args:
        works: The encoders, which have equal inputs.
        size: Number of images of a unit, or of texts if there are no images, missing or not.
    """
    inputs = works[0].inputs
    missing = np.stack([work.missing for work in works])
    if isinstance(inputs, Pairs):
        yield from _units_of_pairs(inputs, missing, size)
    elif works[0].reads_images:
        yield from image_units(inputs, missing, size)
    else:
        for numbers in cut(missing[0], size):
            yield Unit(inputs.keys[numbers], missing[:, numbers], texts=inputs.texts(numbers))


def image_units(
    images: Inputs,
    wanted: np.ndarray,
    size: int,
) -> Iterator[Unit]:
    """Yield units of images.

    Args:
        images: N images.
        wanted: (W, N) bool: the images that each encoder encodes.
        size: Number of images of a unit, wanted or not.
    """
    for numbers in cut(np.logical_or.reduce(wanted), size):
        keys = images.keys[numbers]
        yield Unit(keys, wanted[:, numbers], images=images.texts(numbers), image_keys=keys)


def cut(wanted: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut N inputs into pieces; yield for each piece with wanted inputs the ascending numbers of these.

    Args:
        wanted: (N,) bool: the inputs to encode.
        size: Number of inputs of a piece, wanted or not.
    """
    for start in range(0, len(wanted), size):
        numbers = np.flatnonzero(wanted[start : start + size])
        if len(numbers):
            yield numbers + start


def _units_of_pairs(
    pairs: Pairs,
    missing: np.ndarray,
    size: int,
) -> Iterator[Unit]:
    """Yield units of images with all their missing pairs, so that each image is read and encoded once."""
    used_images, image_of_pair = np.unique(pairs.image, return_inverse=True)
    missing_pairs = np.flatnonzero(missing[0])
    by_image = missing_pairs[np.argsort(image_of_pair[missing_pairs], kind="stable")]
    counts = np.bincount(image_of_pair[missing_pairs], minlength=len(used_images))
    ends = np.cumsum(counts)
    for piece in cut(counts > 0, size):
        numbers = by_image[ends[piece[0]] - counts[piece[0]] : ends[piece[-1]]]
        images = used_images[piece]
        texts, pair_texts = np.unique(pairs.text[numbers], return_inverse=True)
        yield Unit(
            keys=pairs.keys[numbers],
            wanted=missing[:, numbers],
            images=pairs.images.texts(images),
            image_keys=pairs.images.keys[images],
            texts=pairs.texts.texts(texts),
            pair_images=np.searchsorted(piece, image_of_pair[numbers]),
            pair_texts=pair_texts,
        )
