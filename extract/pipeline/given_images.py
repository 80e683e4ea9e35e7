"""Images that callers pass: places, PIL images, arrays and tensors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tier4k.cache.keys import bytes_key
from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import as_rgb, decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes

ImageInput = str | Path | Image.Image | np.ndarray | torch.Tensor


def as_image(value: ImageInput) -> tuple[Image.Image, bytes]:
    """Return an RGB image, upright and composited onto white, and its key, which seeds random crops.

    Args:
        value: A path or other place; a PIL image; an array (H, W, 3), (H, W, 4) or (H, W); or a tensor
            (3, H, W), (4, H, W) or (1, H, W), as torchvision returns. Arrays and tensors are uint8 from 0 to
            255 or floats from 0 to 1; a fourth channel is alpha.

    Raises:
        ImageError: The value is not an image, or cannot be decoded.
    """
    if isinstance(value, str | Path):
        return _from_place(value)
    if isinstance(value, torch.Tensor):
        value = _channels_last(value)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if not isinstance(value, Image.Image):
        accepted = "pass a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W)"
        raise ImageError(f"a value of type {type(value).__name__} is not an image: {accepted}")
    image = as_rgb(value)
    return image, bytes_key(image.tobytes())


def _from_place(place: str | Path) -> tuple[Image.Image, bytes]:
    try:
        data = read_bytes(place)
        return decode(data), content_key(data)
    except ImageError as error:
        raise ImageError(f"{place}: {error}") from error


def _channels_last(value: torch.Tensor) -> np.ndarray:
    if value.ndim != 3 or value.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"a tensor of shape {tuple(value.shape)} is not an image: pass one of shape (3, H, W) or "
            "(4, H, W)"
        )
    if not has_pixels(value):
        raise ImageError(
            f"a tensor of layout {value.layout} on {value.device} has no pixels: pass a dense one"
        )
    pixels = value.detach().cpu().permute(1, 2, 0)
    if pixels.is_floating_point():
        pixels = pixels.float()
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return pixels.numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if not _has_shape_of_image(array):
        expected = "(H, W, 3), (H, W, 4) or (H, W)"
        raise ImageError(f"an array of shape {array.shape} is not an image: pass one of shape {expected}")
    if np.issubdtype(array.dtype, np.floating):
        array = _to_8_bits(array)
    if array.dtype != np.uint8:
        raise _wrong_type(str(array.dtype))
    return Image.fromarray(array)


def _has_shape_of_image(array: np.ndarray) -> bool:
    if 0 in array.shape:
        return False
    if array.ndim == 3:
        return array.shape[-1] in (3, 4)
    return array.ndim == 2


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    if not _is_in_range(low, high):
        raise _out_of_range(low, high)
    return np.round(array * 255).astype(np.uint8)


def is_planes(value: object) -> bool:
    """Return whether an image is a tensor of planes, (3, H, W) or (1, H, W), which can stay on its device."""
    if not isinstance(value, Tensor) or not has_pixels(value):
        return False
    return value.ndim == 3 and value.shape[0] in (1, 3) and 0 not in value.shape


def has_pixels(tensor: Tensor) -> bool:
    """Return whether a tensor has its values in memory, one after the other: not sparse, and not abstract."""
    return tensor.layout == torch.strided and not tensor.is_meta


def pixels_of_planes(images: Tensor) -> tuple[Tensor, dict[int, ImageError]]:
    """Return the pixels (B, H, W, 4) of images (B, 3, H, W) or (B, 1, H, W), on their device.

    Floats are rounded as `as_image` rounds them. The fourth byte of a pixel has no meaning.

    Returns:
        The pixels, and the errors of images that cannot be used, by number of the image.

    Raises:
        ImageError: The images are neither uint8 nor floats.
    """
    images = images.detach()
    errors: dict[int, ImageError] = {}
    if images.is_floating_point():
        errors = range_errors(images)
        images = (images.float() * 255).round().clamp(0, 255).byte()
    if images.dtype != torch.uint8:
        raise _wrong_type(str(images.dtype).removeprefix("torch."))
    planes = images.expand(-1, 3, -1, -1)
    return torch.cat([planes, planes[:, :1]], dim=1).permute(0, 2, 3, 1).contiguous(), errors


def group_by_shape(images: Mapping[int, Tensor]) -> list[list[int]]:
    """Return lists of the numbers of images with equal shape and type."""
    groups: dict[object, list[int]] = {}
    for number, image in images.items():
        groups.setdefault((image.shape, image.dtype), []).append(number)
    return list(groups.values())


def range_errors(images: Tensor) -> dict[int, ImageError]:
    """Return errors of float images (B, C, H, W) with pixels outside of 0 to 1, by number of the image."""
    # One tensor of both ends, so that the device is waited for only once.
    ends = torch.stack(images.detach().flatten(1).float().aminmax(dim=1)).tolist()
    errors = {}
    for number, (low, high) in enumerate(zip(*ends, strict=True)):
        if not _is_in_range(low, high):
            errors[number] = _out_of_range(low, high)
    return errors


def _is_in_range(low: float, high: float) -> bool:
    return low >= 0 and high <= 1  # both comparisons are false for NaN


def _out_of_range(low: float, high: float) -> ImageError:
    return ImageError(
        f"floating-point pixels must be from 0 to 1, not {low:g} to {high:g}: "
        "divide the pixels by 255, or pass uint8"
    )


def _wrong_type(dtype: str) -> ImageError:
    return ImageError(
        f"pixels of type {dtype} are not supported: pass uint8 from 0 to 255, or floats from 0 to 1"
    )
