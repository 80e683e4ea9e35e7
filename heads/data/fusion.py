"""Fusion: make one vector for each row from text, image and image prompt (TIER-NR, TIER-FR, TIER-PR)."""

from typing import TYPE_CHECKING, NamedTuple, TypeVar, get_args

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

Features = TypeVar("Features", np.ndarray, "Tensor")


class FusionError(TierError):
    """The rows do not allow the fusion method."""


class Fused(NamedTuple):
    """The fused vectors of N rows.

    Attributes:
        X: Fused vectors (N, d), or (N, V, d) where V crops of each image are stored.
        streams: The columns of each stream.
    """

    X: np.ndarray
    streams: Streams


def fuse(features: FeatureSet, method: Method) -> Fused:
    """Return the fused vectors of a TIER method, and the columns of each stream.

    nr: [text, image]. fr: [text, image, image prompt], for rows that all have an image prompt.
    pr: [text, mean of image and image prompt]; without an image prompt, the image itself.
    Zero-shot scores, if any, are the last columns.

    Raises:
        FusionError: The method does not exist, or is `fr` with rows that have no image prompt.
    """
    if method not in get_args(Method):
        raise FusionError(f"there is no method {method!r}: use one of {', '.join(get_args(Method))}")
    if method == "fr":
        _require_image_prompts(features)
    # The image replaces a missing image prompt: the mean of both is then the image itself.
    axes = [1] * (features.image.ndim - 1)
    has_image_prompt = features.has_image_prompt.reshape(-1, *axes)
    image_prompt = np.where(has_image_prompt, features.image_prompt, features.image)
    X = _concatenate(features, image_parts(method, features.image, image_prompt))
    scorers = 0 if features.zero_shot is None else features.zero_shot.shape[-1]
    return Fused(X, fused_streams(method, features.text.shape[-1], features.image.shape[-1], scorers))


def fused_streams(
    method: Method,
    text: int,
    image: int,
    zero_shot: int = 0,
) -> Streams:
    """Return the columns of each stream of a method's fused vectors.

    Args:
        method: Name of the fusion method.
        text, image: Numbers of features of a text prompt and of an image.
        zero_shot: Number of zero-shot scorers.
    """
    return Streams(text, image, image if method == "fr" else 0, zero_shot)


def image_parts(
    method: Method,
    image: Features,
    image_prompt: Features,
) -> list[Features]:
    """Return the parts of a fused vector that follow the text, as arrays or tensors.

    Args:
        method: Name of the fusion method.
        image: (..., Di) features of the images.
        image_prompt: (..., Di) features of the image prompts; equal to `image` if a row has no image prompt.
    """
    if method == "nr":
        return [image]
    if method == "fr":
        return [image, image_prompt]
    return [(image + image_prompt) / 2]


def _concatenate(features: FeatureSet, images: list[np.ndarray]) -> np.ndarray:
    """Concatenate text, image parts (N, ..., Di) and scores; text and scores are repeated for every crop."""
    crops = images[0].shape[1:-1]
    parts = [_repeat_for_crops(features.text, crops), *images]
    if features.zero_shot is not None:
        parts.append(_repeat_for_crops(features.zero_shot, crops))
    return np.concatenate(parts, axis=-1)


def _repeat_for_crops(rows: np.ndarray, crops: tuple[int, ...]) -> np.ndarray:
    """Repeat vectors (N, D) for every crop: return (N, *crops, D)."""
    axes = [1] * len(crops)
    return np.broadcast_to(rows.reshape(len(rows), *axes, -1), (len(rows), *crops, rows.shape[-1]))


def require_valid_benchmark(method: Method, benchmark: Benchmark) -> None:
    """Refuse full reference where rows without an image prompt take part.

    Raises:
        FusionError: The method is "fr" and the benchmark has rows without an image prompt.
    """
    if method == "fr" and benchmark != "I2I":
        raise FusionError(
            f"--method fr needs an image prompt in every row, and {benchmark} has rows without one: "
            "use --benchmark I2I, or --method pr, which uses image prompts if they exist"
        )


def default_benchmark(method: Method) -> Benchmark:
    """Return the widest benchmark that a method allows."""
    return "I2I" if method == "fr" else "all"


def _require_image_prompts(features: FeatureSet) -> None:
    rows_without = np.flatnonzero(~features.has_image_prompt)
    if len(rows_without):
        raise FusionError(
            f"full reference (fr) needs an image prompt in every row; {len(rows_without)} of {len(features)} "
            f"rows have none, first {features.name[rows_without[0]]}: use the I2I benchmark, or partial "
            "reference (pr)"
        )
