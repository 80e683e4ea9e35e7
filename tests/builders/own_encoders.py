"""Image encoders of a user in code: colours of the quarters of an image."""

import torch
from torch import Tensor, nn

from tier4k import ImageEncoderFunction, image_preprocessing

PREPROCESSING = image_preprocessing(32, 36, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 1.0))


def quarters(images: Tensor) -> Tensor:
    """Features (B, 12): the mean colour of each quarter."""
    return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def two_axes(images: Tensor) -> Tensor:
    """Features of a wrong shape."""
    return images


QUARTERS = ImageEncoderFunction("quarters", "1", quarters, PREPROCESSING)
NEXT_VERSION = ImageEncoderFunction("quarters", "2", quarters, PREPROCESSING)
LINEAR = ImageEncoderFunction(
    "linear", "1", nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), PREPROCESSING
)
WRONG_SHAPE = ImageEncoderFunction("wrong", "1", two_axes, PREPROCESSING)
NO_ENCODER = torch.zeros(3)
