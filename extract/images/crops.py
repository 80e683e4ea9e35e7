"""Random crops and flips of an image, as in TIER-4K's training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tier4k.extract.images.preprocessing import Preprocessing, nearest_multiple, to_tensor

if TYPE_CHECKING:
    import torch

# These crops only cut off margins of the resized image, so a random crop can replace them.
REPLACEABLE_CROPS = ("center", "floor", "no")

# Sides of a random crop over those of an uncropped image, in the proportion of TIER-4K's crops.
UNCROPPED_SHARE = 224 / 256


@dataclass(frozen=True)
class Crops:
    """The crops of each image that are stored.

    Attributes:
        count: Number of random crops and flips beside the centre crop.
        seed: Seed of the random crops and flips.
    """

    count: int = 0
    seed: int = 0

    def __str__(self) -> str:
        """Return the text in a signature, by which stores are found."""
        if not self.count:
            return "centre"
        return f"centre + {self.count} random crops and flips, seed {self.seed}"


CENTRE_CROP = Crops()


class RandomCrops:
    """Makes the random crops and flips of an RGB image, each (3, H, W) uint8.

    A crop depends only on the seed, the key of the image and the index of the crop, not on the order or the
    process in which images are read.
    """

    def __init__(self, preprocessing: Preprocessing, crops: Crops) -> None:
        self._preprocessing = preprocessing
        self._crops = crops

    def __call__(self, image: Image.Image, key: bytes) -> "list[torch.Tensor]":
        """Return the crops of an RGB image with this key."""
        pixels = np.asarray(self._preprocessing.resized(image))
        crops = []
        for number in range(self._crops.count):
            random = np.random.default_rng([self._crops.seed, number, *key])
            crops.append(random_crop(pixels, self._preprocessing, random))
        return crops


def random_crop(
    pixels: np.ndarray,
    preprocessing: Preprocessing,
    random: np.random.Generator,
) -> "torch.Tensor":
    """Crop a resized image at random, and mirror it in half of all cases.

    Args:
        pixels: (H, W, 3) uint8.
        preprocessing: Preprocessing of the encoder, whose `size` is the size of the crop.
        random: Generator of the left edge, the top edge and whether the crop is mirrored.

    Returns:
        (3, h, w) uint8.
    """
    full_height, full_width = pixels.shape[:2]
    if preprocessing.size is None:
        width = nearest_multiple(round(full_width * UNCROPPED_SHARE), preprocessing.multiple)
        height = nearest_multiple(round(full_height * UNCROPPED_SHARE), preprocessing.multiple)
    else:
        width = height = preprocessing.size
    left = int(random.integers(full_width - width + 1))
    top = int(random.integers(full_height - height + 1))
    crop = pixels[top : top + height, left : left + width]
    mirrored = random.random() < 0.5
    return to_tensor(crop[:, ::-1] if mirrored else crop)
