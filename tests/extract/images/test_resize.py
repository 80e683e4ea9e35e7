"""Images are resized and cropped as Pillow and timm do, to the bit: on the CPU, and as tensors."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform

from tier4k.extract.images import resize as resize_module
from tier4k.extract.images import resize_tensor as tensor_module
from tier4k.extract.images.geometry import Geometry, whole
from tier4k.extract.images.pixels import pixels_of
from tier4k.extract.images.preprocessing import native
from tier4k.extract.images.resize import FILTERS, is_exact, resize
from tier4k.extract.images.resize_tensor import resize_tensor
from tier4k.extract.images.taps import taps

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
SIDES = st.integers(1, 160)


def noise(width: int, height: int, seed: int, is_extreme: bool = False) -> np.ndarray:
    """Pixels (H, W, 4) without any smoothness; extreme ones are 0 or 255, so that sums leave 0..255."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    return (pixels // 128 * 255).astype(np.uint8) if is_extreme else pixels


def by_pillow(pixels: np.ndarray, geometry: Geometry, interpolation: str) -> np.ndarray:
    """The crop (3, h, w) as Pillow resizes, pasted on a sheet of the fill colour."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    resized = image.resize((geometry.width, geometry.height), Image.Resampling[interpolation.upper()])
    left, top, right, bottom = geometry.box
    sheet = Image.new("RGB", (right - left, bottom - top), geometry.fill)
    sheet.paste(resized, (-left, -top))
    return np.asarray(sheet).transpose(2, 0, 1)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    width, height = draw(SIDES), draw(SIDES)
    if draw(st.booleans()):
        return whole(width, height)
    left, top = draw(st.integers(-9, width - 1)), draw(st.integers(-9, height - 1))
    right, bottom = (
        draw(st.integers(max(left, 0) + 1, width + 9)),
        draw(st.integers(max(top, 0) + 1, height + 9)),
    )
    return Geometry(
        width, height, (left, top, right, bottom), draw(st.sampled_from([(0, 0, 0), (9, 200, 31)]))
    )


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, geometries(), st.sampled_from(list(FILTERS)), st.integers(0, 99), st.booleans())
def test_a_resize_is_that_of_pillow(
    width: int, height: int, geometry: Geometry, interpolation: str, seed: int, is_extreme: bool
) -> None:
    pixels = noise(width, height, seed, is_extreme)
    expected = by_pillow(pixels, geometry, interpolation)
    assert np.array_equal(resize(pixels, geometry, interpolation), expected)
    tensor = resize_tensor(torch.from_numpy(pixels)[None], geometry, interpolation)
    assert np.array_equal(tensor[0].numpy(), expected)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((512, 512), (256, 256)),
        ((640, 427), (383, 256)),
        ((300, 1400), (256, 1194)),  # Pillow resizes the height first
        ((61, 700), (224, 256)),
        ((700, 61), (256, 224)),
    ],
)
def test_usual_and_long_images_are_resized_as_by_pillow(
    size: tuple[int, int], resized: tuple[int, int], interpolation: str
) -> None:
    pixels, geometry = noise(*size, seed=1), whole(*resized)
    expected = by_pillow(pixels, geometry, interpolation)
    assert np.array_equal(resize(pixels, geometry, interpolation), expected)
    assert np.array_equal(resize_tensor(torch.from_numpy(pixels)[None], geometry, interpolation)[0], expected)


def test_a_batch_is_resized_as_one_by_one_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.stack([noise(40, 30, seed) for seed in range(5)])
    geometry = Geometry(25, 17, (-2, 3, 20, 19), (1, 2, 3))
    expected = [resize(one, geometry, "bicubic") for one in pixels]
    for limit in (1, 100_000, 2**28):
        monkeypatch.setattr(tensor_module, "TEMPORARY_BYTES", limit)
        assert np.array_equal(resize_tensor(torch.from_numpy(pixels), geometry, "bicubic"), expected)


def test_threads_resize_the_same_image_alike() -> None:
    pixels, geometry = noise(200, 150, seed=3), whole(64, 48)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: resize(pixels, geometry, name), [*FILTERS] * 8))
    for crop, name in zip(found, [*FILTERS] * 8, strict=True):
        assert np.array_equal(crop, by_pillow(pixels, geometry, name))


@pytest.mark.parametrize("size", [(20, 20), (1, 1), (7, 9)])
def test_pixels_that_cannot_be_written_become_crops_that_can(size: tuple[int, int]) -> None:
    pixels = noise(*size, seed=4)
    pixels.flags.writeable = False
    for geometry in (whole(7, 9), whole(1, 1)):
        found = resize(pixels, geometry, "lanczos")
        assert np.array_equal(found, by_pillow(pixels, geometry, "lanczos"))
        assert found.flags.writeable and found.flags.c_contiguous


@pytest.mark.parametrize("interpolation", FILTERS)
def test_sums_of_any_pixels_fit_into_32_bits(interpolation: str) -> None:
    for length in (1, 2, 3, 4, 5, 7, 11, 100, 1024, 5000):
        for resized in (1, 2, 3, 5, 8, 13, 224, 999, 1024):
            weights = taps(length, resized, interpolation, 0, resized).weights.astype(np.int64)
            assert (np.abs(weights).sum(axis=1) * 255 + 2**21).max() < 2**31
            assert np.abs(weights.sum(axis=1) - 2**22).max() <= weights.shape[1]


def test_pillow_resizes_where_it_resizes_in_another_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resized_part = resize_module._resized_part
    monkeypatch.setattr(resize_module, "_resized_part", lambda *arguments: resized_part(*arguments) ^ 1)
    resize_module._equals_pillow.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not is_exact()
        geometry = Geometry(30, 40, (-3, 2, 20, 20))
        found = resize(noise(50, 60, seed=5), geometry, "bicubic")
        assert np.array_equal(found, by_pillow(noise(50, 60, seed=5), geometry, "bicubic"))
        assert "images are resized by Pillow" in caplog.text
    finally:
        resize_module._equals_pillow.cache_clear()
    monkeypatch.undo()
    assert is_exact()


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.tuples(SIDES, SIDES), st.tuples(st.integers(1, 4), st.integers(90, 400)), st.just((57, 66))),
    st.integers(8, 60),
    st.sampled_from([-3, 0, 1, 8, 9]),
    st.sampled_from(["center", "squash", "border"]),
    st.sampled_from(list(FILTERS)),
)
def test_every_crop_is_that_of_timm(
    size: tuple[int, int], side: int, margin: int, crop: str, interpolation: str
) -> None:
    resized = side + margin
    if crop == "border" and round(min(size) * resized / max(size)) < 1:
        return  # timm refuses to resize to a side of zero pixels
    transform = create_transform(
        side, interpolation=interpolation, crop_pct=side / (resized + 0.5), crop_mode=crop, normalize=False
    )
    pixels = noise(*size, seed=side)
    expected = transform(Image.fromarray(np.ascontiguousarray(pixels[..., :3]))).numpy()
    found = native(side, resized, MEAN, STD, interpolation, crop).apply(pixels)
    assert np.array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(8, 60), st.sampled_from([-3, 0, 1, 8, 9]))
def test_a_floor_crop_has_its_smaller_margins_in_front_and_is_black_outside(
    width: int, height: int, side: int, margin: int
) -> None:
    resized, shortest = side + margin, min(width, height)
    pixels = noise(width, height, seed=side)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    scaled = image.resize(
        (width * resized // shortest, height * resized // shortest), Image.Resampling.BICUBIC
    )
    left, top = (scaled.width - side) // 2, (scaled.height - side) // 2
    expected = np.asarray(scaled.crop((left, top, left + side, top + side))).transpose(2, 0, 1)
    found = native(side, resized, MEAN, STD, "bicubic", "floor").apply(pixels)
    assert np.array_equal(found, expected)


def test_pixels_of_an_image_are_its_colours() -> None:
    image = Image.fromarray(np.ascontiguousarray(noise(31, 17, seed=6)[..., :3]))
    pixels = pixels_of(image)
    assert pixels.shape == (17, 31, 4) and pixels.flags.c_contiguous
    assert np.array_equal(pixels[..., :3], np.asarray(image))
