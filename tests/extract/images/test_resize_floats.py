"""A resize without rounding: Pillow's pixels up to one level, with a gradient."""

import numpy as np
import pytest
import torch
from PIL import Image

from tier4k.extract.images.geometry import Geometry, centred, whole
from tier4k.extract.images.resize_tensor import resize_floats

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def smooth(height: int, width: int) -> np.ndarray:
    """Return an image (height, width, 3) without overshoot at its edges."""
    down, across = np.mgrid[:height, :width]
    planes = [40 + 100 * down / height, 60 + 100 * across / width, 128 + 60 * np.sin(down / 9 + across / 7)]
    return np.stack(planes, axis=2).round().astype(np.uint8)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("geometry", [whole(20, 31), whole(90, 70), centred(40, 24, 22), whole(60, 50)])
def test_floats_are_the_pixels_of_pillow_before_rounding(name: str, geometry: Geometry) -> None:
    pixels = smooth(50, 60)
    resized = Image.fromarray(pixels).resize((geometry.width, geometry.height), FILTERS[name])
    expected = np.asarray(resized.crop(geometry.box)).transpose(2, 0, 1)
    given = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    found = resize_floats(given, geometry, name)[0].numpy()
    # Pillow rounds after each pass; weights of the second whose sizes sum to 1.4 enlarge the first rounding.
    np.testing.assert_allclose(found, expected, atol=0.5 + 0.5 * 1.4)
    assert abs(found - expected).mean() < 0.4


def test_pixels_beside_a_small_image_have_the_fill() -> None:
    pixels = torch.full((1, 3, 8, 8), 200.0)
    crop = resize_floats(pixels, centred(8, 8, 12, fill=(1, 2, 3)), "bicubic")[0]
    assert crop[:, 0, 0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(crop[:, 2:10, 2:10], 200, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 255.0])
def test_black_and_white_areas_have_a_gradient(value: float) -> None:
    pixels = torch.full((1, 3, 40, 40), value, requires_grad=True)
    resize_floats(pixels, whole(13, 17), "bicubic").sum().backward()
    assert pixels.grad is not None
    np.testing.assert_allclose(pixels.grad.sum((2, 3)), 13 * 17, rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    pixels = torch.from_numpy(smooth(7, 6)).permute(2, 0, 1)[None].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: resize_floats(given, whole(4, 3), "lanczos"), pixels)
