"""Degradations of the sample: glitch, blur, fading and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator as Rng
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Degradation:
    """Amounts of damage of an image, each from 0 (none) to 1."""

    blur: float
    noise: float
    fade: float
    glitch: float


def degrade(
    image: Image.Image,
    amounts: Degradation,
    rng: Rng,
) -> Image.Image:
    """The image torn (glitch), blurred, faded and made noisy, in this order."""
    torn = _tear(image, amounts.glitch, rng)
    blur = ImageFilter.GaussianBlur(amounts.blur * image.width / 60)
    values = np.asarray(torn.filter(blur), dtype=np.float32)
    values = values + 0.6 * amounts.fade * (values.mean() - values)
    grain = rng.standard_normal((*values.shape[:2], 1), dtype=np.float32)
    noisy = values + 45 * amounts.noise * grain
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _tear(
    image: Image.Image,
    glitch: float,
    rng: Rng,
) -> Image.Image:
    """Shift up to 16 random bands of rows sideways."""
    pixels = np.array(image)
    side = image.height
    height = side // 16
    for _ in range(round(16 * glitch)):
        top = int(rng.integers(side - height))
        shift = int(rng.integers(side // 12, side // 4))
        band = slice(top, top + height)
        pixels[band] = np.roll(pixels[band], shift, axis=1)
    return Image.fromarray(pixels)
