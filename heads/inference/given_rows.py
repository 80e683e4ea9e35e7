"""Images, prompts and image prompts that callers pass, as one list of each."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.results.model import Model, ModelError

Images = ImageInput | Sequence[ImageInput]

Prompts = str | Sequence[str] | None

ImagePrompts = ImageInput | Sequence[ImageInput | None] | None


def is_several(value: object) -> bool:
    """Return whether a value has several images: a list, an array (N, H, W, 3) or a tensor (N, 3, H, W)."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.ndim == 4
    return isinstance(value, list | tuple)


def image_list(images: Images) -> list[Any]:
    """Return one or several images as a list.

    Raises:
        ModelError: There is no image.
    """
    listed: list[Any] = list(images) if is_several(images) else [images]  # type: ignore[arg-type]
    if not listed:
        raise ModelError("the list of images is empty: pass at least one image")
    return listed


def prompt_list(prompts: Prompts, count: int) -> list[str]:
    """Return one text prompt for each of `count` images, without spaces at the ends of the texts.

    Raises:
        ModelError: The numbers of prompts and images differ, or a prompt is empty or no text.
    """
    is_single = isinstance(prompts, str) or not isinstance(prompts, Iterable)
    listed = _one_per_image(prompts, count, "prompts", is_single)
    for text in listed:
        if not isinstance(text, str) or not text.strip():
            shown = repr(text) if text is None or isinstance(text, str) else f"a {type(text).__name__}"
            raise ModelError(
                f"{shown} is not a text prompt: pass the prompt that the image was generated from"
            )
    return [text.strip() for text in listed]


def image_prompt_list(image_prompts: ImagePrompts, count: int) -> list[Any]:
    """Return one image prompt for each of `count` images, None where there is none.

    Raises:
        ModelError: The numbers of image prompts and images differ.
    """
    return _one_per_image(image_prompts, count, "image prompts", not is_several(image_prompts))


def _one_per_image(
    value: Any,
    count: int,
    noun: str,
    is_single: bool,
) -> list[Any]:
    values = [value] * count if is_single else list(value)
    if len(values) != count:
        raise ModelError(
            f"there are {len(values)} {noun} for {count} images: pass one for all images, or one for each "
            "image"
        )
    return values


def prompts_of(
    model: Model,
    prompts: Prompts,
    count: int,
) -> list[str]:
    """Return one text prompt for each of `count` images; empty texts if the heads use none.

    Raises:
        ModelError: As for `prompt_list`, if the heads use prompts.
    """
    return prompt_list(prompts, count) if model.reads_prompts else [""] * count


def image_prompts_of(
    model: Model,
    image_prompts: ImagePrompts,
    count: int,
) -> list[Any]:
    """Return one image prompt for each of `count` images; None means that it is missing or not used.

    Raises:
        FusionError: The heads need an image prompt for every image, and one is missing.
        ModelError: The numbers of image prompts and images differ.
    """
    listed = image_prompt_list(image_prompts, count)
    if not model.reads_image_prompts:
        return [None] * count
    if model.requires_image_prompts and any(image is None for image in listed):
        raise FusionError(
            "the heads are full reference (fr) and need image prompts: pass an image_prompt for "
            "every image, or load a run of method pr or nr"
        )
    return listed
