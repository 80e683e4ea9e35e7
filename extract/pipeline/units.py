"""Units: inputs that are read together, and encoded one after the other in batches.

A unit is a fixed number of inputs in the order of all inputs of the plan, whether or not a store holds them.
So the inputs that go through a network together do not depend on where an earlier extraction ended, nor on
the number of threads, processes and machines. A unit is complete by itself and can be sent to any of them.
"""

from dataclasses import dataclass, field

import numpy as np

from tier4k.cache.keys import KEY_BYTES

# Images of a unit: enough for a full batch of a GPU.
IMAGES_PER_UNIT = {"cpu": 32, "cuda": 256, "mps": 64}

BYTES_PER_UNIT = 2**27  # of preprocessed images

TEXTS_PER_UNIT = 1024

NO_KEYS = np.empty((0, KEY_BYTES), np.uint8)
NO_NUMBERS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Unit:
    """N inputs: images, texts, or pairs of both. Each is wanted by at least one of W encoders.

    Attributes:
        keys: (N, 32) uint8.
        wanted: (W, N) bool: the inputs that each encoder encodes.
        images: Places of the P images: of the inputs in their order, or of pairs.
        image_keys: (P, 32) uint8 keys of the images.
        texts: The texts: of the inputs in their order, or of pairs.
        pair_images: (N,) index of each pair's image, ascending; empty if the inputs are no pairs.
        pair_texts: (N,) index of each pair's text; empty if the inputs are no pairs.
    """

    keys: np.ndarray
    wanted: np.ndarray
    images: tuple[str, ...] = ()
    image_keys: np.ndarray = field(default_factory=lambda: NO_KEYS)
    texts: tuple[str, ...] = ()
    pair_images: np.ndarray = field(default_factory=lambda: NO_NUMBERS)
    pair_texts: np.ndarray = field(default_factory=lambda: NO_NUMBERS)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def has_pairs(self) -> bool:
        """Whether the inputs are pairs."""
        return bool(self.images) and bool(self.texts)

    def inputs_of(self, images: np.ndarray) -> np.ndarray:
        """Return the numbers of the inputs that use some of the images, given by their numbers (C,)."""
        return np.flatnonzero(np.isin(self.pair_images, images)) if self.has_pairs else images


def images_per_unit(
    image_bytes: int,
    crops_per_image: int,
    batch_size: int | None,
    device: str,
) -> int:
    """Return the number of images of a unit: a multiple of the images of a batch, if its size is requested.

    Args:
        image_bytes: Approximate number of bytes of a preprocessed image with all its crops.
        crops_per_image: Crops of each image.
        batch_size: Requested number of crops per batch; None if the device decides.
        device: Type of the device, such as "cpu".
    """
    images = min(IMAGES_PER_UNIT[device], max(BYTES_PER_UNIT // image_bytes, 1))
    if batch_size is None:
        return images
    images_per_batch = max(batch_size // crops_per_image, 1)
    return -(-images // images_per_batch) * images_per_batch
