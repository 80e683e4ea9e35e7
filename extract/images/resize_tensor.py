"""Resize and crop of a batch of images on a device, equal to Pillow's to the bit.

Sums of whole numbers are exact whatever their order, so every device gives the same pixels; none needs
float64.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tier4k.extract.images.geometry import Box, Geometry
from tier4k.extract.images.resize_order import height_first
from tier4k.extract.images.taps import HALF, ONE, WEIGHT_BITS, taps

TEMPORARY_BYTES = 2**28  # that the passes take beside their inputs and results
KEPT_TAPS = 64

# By how much resized floats may leave 0..255: if they were cut off at 255, white areas had no gradient.
ROUNDING = 1e-3

_ROWS, _COLUMNS = 1, 2  # dimensions of (B, H, W, 4)
_SUM_BYTES = 16  # of one resized pixel: four sums of 32 bits
_COPIES = 3  # of that size: the sums, their next products, and the values that are multiplied


@dataclass(frozen=True)
class _DeviceTaps:
    """Taps on a device.

    Attributes:
        start, end: Range of the columns (or rows) that are needed.
        places: (k, n) int64: for each tap the columns in that range.
        weights: (k, n) int32.
    """

    start: int
    end: int
    places: Tensor
    weights: Tensor


def resize_tensor(
    pixels: Tensor,
    geometry: Geometry,
    interpolation: str,
) -> Tensor:
    """Resize images of one size and cut their crops out, as `resize` does with each.

    Args:
        pixels: (B, H, W, 4) uint8, contiguous; the fourth byte of a pixel has no meaning.
        geometry: Size after the resize, and the crop.
        interpolation: "bilinear", "bicubic" or "lanczos".

    Returns:
        (B, 3, h, w) uint8, on the device of the pixels.
    """
    _, height, width, _ = pixels.shape
    left, top, right, bottom = geometry.inside
    if (width, height) == (geometry.width, geometry.height):
        return _filled(pixels[:, top:bottom, left:right], geometry)
    columns = _taps_on(pixels.device, width, geometry.width, interpolation, left, right)
    rows = _taps_on(pixels.device, height, geometry.height, interpolation, top, bottom)
    needed = pixels[:, rows.start : rows.end, columns.start : columns.end]
    if height_first((width, height), (geometry.width, geometry.height)):
        passes = ((_ROWS, rows), (_COLUMNS, columns))
    else:
        passes = ((_COLUMNS, columns), (_ROWS, rows))
    for dimension, device_taps in passes:
        needed = _resized(needed, dimension, device_taps)
    return _filled(needed, geometry)


@lru_cache(KEPT_TAPS)
def _taps_on(
    device: torch.device,
    length: int,
    resized: int,
    interpolation: str,
    first: int,
    last: int,
) -> _DeviceTaps:
    """Return taps on a device; see `taps`."""
    host = taps(length, resized, interpolation, first, last)
    starts = torch.from_numpy(host.starts).long() - host.start
    numbers = torch.arange(host.weights.shape[1])
    # Behind a column's count the weight is 0, whatever the place.
    places = (starts + numbers[:, None]).clamp(max=host.end - host.start - 1)
    weights = torch.from_numpy(host.weights).T.contiguous()
    return _DeviceTaps(host.start, host.end, places.to(device), weights.to(device))


def _resized(
    pixels: Tensor,
    dimension: int,
    device_taps: _DeviceTaps,
) -> Tensor:
    """Resize one dimension of images (B, H, W, 4), a part of the batch at a time."""
    shape = list(pixels.shape)
    shape[dimension] = device_taps.places.shape[1]
    image_bytes = shape[_ROWS] * shape[_COLUMNS] * _SUM_BYTES * _COPIES
    resized = torch.empty(shape, dtype=torch.uint8, device=pixels.device)
    part = max(TEMPORARY_BYTES // image_bytes, 1)
    for start in range(0, len(pixels), part):
        resized[start : start + part] = _resized_part(pixels[start : start + part], dimension, device_taps)
    return resized


def _resized_part(
    pixels: Tensor,
    dimension: int,
    device_taps: _DeviceTaps,
) -> Tensor:
    packed = pixels.contiguous().view(torch.int32).squeeze(-1)  # one number a pixel is gathered at once
    weights_shape = [1, 1, 1, 1]
    weights_shape[dimension] = -1
    sums: Tensor | None = None
    for places, weights in zip(device_taps.places, device_taps.weights, strict=True):
        values = packed.index_select(dimension, places).unsqueeze(-1).view(torch.uint8)
        if sums is None:
            sums = torch.full(values.shape, HALF, dtype=torch.int32, device=pixels.device)
        sums.addcmul_(values.int(), weights.view(weights_shape))
    assert sums is not None
    return sums.bitwise_right_shift_(WEIGHT_BITS).clamp_(0, 255).byte()


def _filled(part: Tensor, geometry: Geometry) -> Tensor:
    """Return crops (B, 3, h, w) with their fill beside the part (B, H, W, 4) that is inside the images."""
    planes = part[..., :3].permute(0, 3, 1, 2)
    if geometry.inside == geometry.box:
        return planes.contiguous()
    width, height = geometry.crop_size
    fill = torch.tensor(geometry.fill, dtype=torch.uint8, device=part.device)
    crops = fill.view(1, 3, 1, 1).repeat(len(part), 1, height, width)
    left, top, right, bottom = _inside_crop(geometry)
    crops[:, :, top:bottom, left:right] = planes
    return crops


def _inside_crop(geometry: Geometry) -> Box:
    """Return the part of the crop that is inside the image, counted from the crop's corner."""
    left, top, _, _ = geometry.box
    first, upper, last, lower = geometry.inside
    return first - left, upper - top, last - left, lower - top


def resize_floats(
    pixels: Tensor,
    geometry: Geometry,
    interpolation: str,
) -> Tensor:
    """Resize images of one size and cut out their crops, without rounding, so that pixels have a gradient.

    The weights are those of `resize_tensor`, which rounds and cuts off overshoot after each pass: values
    differ from its bytes by about 1 at most, and by more at edges between black and white. Here overshoot is
    cut off after both passes.

    Args:
        pixels: (B, 3, H, W) floats from 0 to 255.
        geometry: Size after the resize, and the crop.
        interpolation: "bilinear", "bicubic" or "lanczos".

    Returns:
        (B, 3, h, w) of the type and on the device of the pixels.
    """
    height, width = pixels.shape[2:]
    left, top, right, bottom = geometry.inside
    columns = _matrix(width, geometry.width, interpolation, left, right).to(pixels)
    rows = _matrix(height, geometry.height, interpolation, top, bottom).to(pixels)
    part = (rows @ pixels @ columns.T).clamp(-ROUNDING, 255 + ROUNDING)
    if geometry.inside == geometry.box:
        return part
    width, height = geometry.crop_size
    fill = torch.tensor(geometry.fill, dtype=part.dtype, device=part.device)
    crops = fill.view(1, 3, 1, 1).repeat(len(part), 1, height, width)
    left, top, right, bottom = _inside_crop(geometry)
    crops[:, :, top:bottom, left:right] = part
    return crops


@lru_cache(KEPT_TAPS)
def _matrix(
    length: int,
    resized: int,
    interpolation: str,
    first: int,
    last: int,
) -> Tensor:
    """Return the weights (n, length) float64 of n resized columns; see `taps`."""
    host = taps(length, resized, interpolation, first, last)
    matrix = torch.zeros(len(host), length, dtype=torch.float64)
    starts = torch.from_numpy(host.starts).long()
    for number, weights in enumerate(torch.from_numpy(host.weights).double().T / ONE):
        # Behind a column's count the weight is 0, whatever the place.
        places = (starts + number).clamp(max=length - 1)
        matrix.scatter_add_(1, places[:, None], weights[:, None])
    return matrix
