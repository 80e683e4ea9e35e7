"""Fusion: NR, FR and PR vectors from the streams of features."""

from typing import TYPE_CHECKING, TypeVar, get_args

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet

if TYPE_CHECKING:
    from torch import Tensor


class FusionError(TierError):
    """A fusion method that these rows do not allow."""


def fuse(features: FeatureSet, method: Method) -> np.ndarray:
    """The fused vectors X (N, d) of a TIER method, the text first; (N, V, d) where V views of each picture are stored.

    nr: [text, image]. fr: [text, image, image prompt], for rows that all have an image prompt.
    pr: [text, mean of image and image prompt where there is one, else image]. Zero-shot scores follow, where there are any.

    Raises:
        FusionError: `fr` with rows that have no image prompt.
    """
    if method not in get_args(Method):
        raise FusionError(f"there is no method {method!r}: choose {', '.join(get_args(Method))}")
    if method == "fr":
        _require_image_prompts(features)
    # Where there is no image prompt the picture stands for it: the mean of both is then the picture itself.
    guided = features.has_image_prompt.reshape(-1, *[1] * (features.image.ndim - 1))
    image_prompt = np.where(guided, features.image_prompt, features.image)
    return _side_by_side(features, *image_parts(method, features.image, image_prompt))


Pictures = TypeVar("Pictures", np.ndarray, "Tensor")


def image_parts(method: Method, image: Pictures, image_prompt: Pictures) -> list[Pictures]:
    """What follows the text in fused vectors, arrays or tensors, the picture standing where there is no image prompt."""
    if method == "nr":
        return [image]
    return [image, image_prompt] if method == "fr" else [(image + image_prompt) / 2]


def _side_by_side(features: FeatureSet, *pictures: np.ndarray) -> np.ndarray:
    crops = pictures[0].shape[1:-1]

    def of_every_view(rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(
            rows.reshape(len(rows), *[1] * len(crops), -1), (len(rows), *crops, rows.shape[-1])
        )

    scores = [] if features.zero_shot is None else [of_every_view(features.zero_shot)]
    return np.concatenate([of_every_view(features.text), *pictures, *scores], axis=-1)


def require_possible(method: Method, benchmark: Benchmark) -> None:
    """Refuse full reference where rows without an image prompt take part.

    Raises:
        FusionError: The combination does not exist.
    """
    if method == "fr" and benchmark != "I2I":
        raise FusionError(
            f"--method fr needs an image prompt in every row, and {benchmark} has rows without one: use --benchmark I2I, "
            "or --method pr, which uses the image prompt where there is one"
        )


def _require_image_prompts(features: FeatureSet) -> None:
    without = np.flatnonzero(~features.has_image_prompt)
    if len(without):
        raise FusionError(
            f"full reference (fr) needs an image prompt in every row; {len(without)} of {len(features)} have none, first "
            f"{features.name[without[0]]}: use the I2I benchmark, or partial reference (pr)"
        )


def default_benchmark(method: Method) -> Benchmark:
    """The widest benchmark that a method can be fitted on."""
    return "I2I" if method == "fr" else "all"
