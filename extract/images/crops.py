"""Random crops and flips of an image, as in TIER-4K's training."""

from dataclasses import dataclass

import numpy as np

from tier4k.extract.images.preprocessing import Preprocessing, nearest_multiple

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
    """Makes the random crops and flips of an image, each (3, h, w) uint8.

    A crop depends only on the seed, the key of the image and the index of the crop, not on the order or the
    thread in which images are read.
    """

    def __init__(self, preprocessing: Preprocessing, crops: Crops) -> None:
        self._preprocessing = preprocessing
        self._crops = crops

    def __call__(self, pixels: np.ndarray, key: bytes) -> list[np.ndarray]:
        """Return the crops of the image with this key and pixels (H, W, 4) uint8."""
        if not self._crops.count:
            return []
        resized = self._preprocessing.resized(pixels)
        crops = []
        for number in range(self._crops.count):
            random = np.random.default_rng([self._crops.seed, number, *key])
            crops.append(random_crop(resized, self._preprocessing, random))
        return crops


def random_crop(
    resized: np.ndarray,
    preprocessing: Preprocessing,
    random: np.random.Generator,
) -> np.ndarray:
    """Crop a resized image at random, and mirror it in half of all cases.

    Args:
        resized: (3, H, W) uint8.
        preprocessing: Preprocessing of the encoder, whose `size` is the size of the crop.
        random: Generator of the left edge, the top edge and whether the crop is mirrored.

    Returns:
        (3, h, w) uint8.
    """
    full_height, full_width = resized.shape[1:]
    if preprocessing.size is None:
        width = nearest_multiple(round(full_width * UNCROPPED_SHARE), preprocessing.multiple)
        height = nearest_multiple(round(full_height * UNCROPPED_SHARE), preprocessing.multiple)
    else:
        width = height = preprocessing.size
    left = int(random.integers(full_width - width + 1))
    top = int(random.integers(full_height - height + 1))
    crop = resized[:, top : top + height, left : left + width]
    mirrored = random.random() < 0.5
    return np.array(crop[..., ::-1] if mirrored else crop, order="C")
