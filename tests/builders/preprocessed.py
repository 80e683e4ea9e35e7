"""The inputs of a network: crops of an image as the extraction makes them, as tensors."""

import torch
from PIL import Image

from tier4k.extract.images.crops import Crops, RandomCrops
from tier4k.extract.images.pixels import pixels_of
from tier4k.extract.images.preprocessing import Preprocessing


def preprocessed(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    """The resized and cropped RGB image (3, h, w) uint8."""
    return torch.from_numpy(preprocessing.apply(pixels_of(image)))


def random_crops_of(
    preprocessing: Preprocessing,
    crops: Crops,
    image: Image.Image,
    key: bytes,
) -> list[torch.Tensor]:
    """The random crops (3, h, w) uint8 of an RGB image with this key."""
    return list(map(torch.from_numpy, RandomCrops(preprocessing, crops)(pixels_of(image), key)))
