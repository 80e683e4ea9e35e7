"""Fusion: one vector per row from its text, image and image prompt (TIER-NR, TIER-FR, TIER-PR)."""

from typing import TYPE_CHECKING, TypeVar, get_args

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet

if TYPE_CHECKING:
    from torch import Tensor

Features = TypeVar("Features", np.ndarray, "Tensor")


class FusionError(TierError):
    """A fusion method that these rows do not allow."""


def fuse(features: FeatureSet, method: Method) -> np.ndarray:
    """Return the fused vectors X (N, d) of a TIER method, or (N, V, d) where V crops of each image are
    stored.

    nr: [text, image]. fr: [text, image, image prompt], for rows that all have an image prompt.
    pr: [text, mean of image and image prompt]; a row without an image prompt has its image there.
    Zero-shot scores follow as last columns, where there are any.

    Raises:
        FusionError: The method does not exist, or is `fr` with rows that have no image prompt.
    """
    if method not in get_args(Method):
        raise FusionError(f"there is no method {method!r}: choose {', '.join(get_args(Method))}")
    if method == "fr":
        _require_image_prompts(features)
    # The image replaces a missing image prompt: the mean of both is then the image itself.
    axes = [1] * (features.image.ndim - 1)
    has_image_prompt = features.has_image_prompt.reshape(-1, *axes)
    image_prompt = np.where(has_image_prompt, features.image_prompt, features.image)
    return _concatenated(features, image_parts(method, features.image, image_prompt))


def image_parts(
    method: Method,
    image: Features,
    image_prompt: Features,
) -> list[Features]:
    """Return the parts of a fused vector that follow the text, as arrays or tensors.

    Args:
        method: The fusion.
        image: (..., Di).
        image_prompt: (..., Di), equal to `image` where a row has no image prompt.
    """
    if method == "nr":
        return [image]
    if method == "fr":
        return [image, image_prompt]
    return [(image + image_prompt) / 2]


def _concatenated(features: FeatureSet, images: list[np.ndarray]) -> np.ndarray:
    """Concatenate text, image parts (N, ..., Di) and scores; text and scores are repeated for every crop."""
    crops = images[0].shape[1:-1]
    parts = [_repeated(features.text, crops), *images]
    if features.zero_shot is not None:
        parts.append(_repeated(features.zero_shot, crops))
    return np.concatenate(parts, axis=-1)


def _repeated(rows: np.ndarray, crops: tuple[int, ...]) -> np.ndarray:
    """(N, D) -> (N, *crops, D)."""
    axes = [1] * len(crops)
    return np.broadcast_to(rows.reshape(len(rows), *axes, -1), (len(rows), *crops, rows.shape[-1]))


def require_valid_benchmark(method: Method, benchmark: Benchmark) -> None:
    """Refuse full reference where rows without an image prompt take part.

    Raises:
        FusionError: The combination does not exist.
    """
    if method == "fr" and benchmark != "I2I":
        raise FusionError(
            f"--method fr needs an image prompt in every row, and {benchmark} has rows without one: "
            "use --benchmark I2I, or --method pr, which uses the image prompt where there is one"
        )


def default_benchmark(method: Method) -> Benchmark:
    """Return the widest benchmark that a method allows."""
    return "I2I" if method == "fr" else "all"


def _require_image_prompts(features: FeatureSet) -> None:
    without = np.flatnonzero(~features.has_image_prompt)
    if len(without):
        raise FusionError(
            f"full reference (fr) needs an image prompt in every row; {len(without)} of {len(features)} "
            "have none, "
            f"first {features.name[without[0]]}: use the I2I benchmark, or partial reference (pr)"
        )
