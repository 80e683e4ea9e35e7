"""Find the encoders that the options of a command name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import typer

from tier4k.extract.encoders.choices import PresetName
from tier4k.extract.images.choices import ImageSize
from tier4k.heads.commands.options import ImageGroup, WeightsGroup

if TYPE_CHECKING:
    from tier4k.extract.datasets.layouts import SourceTable
    from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
    from tier4k.extract.encoders.image_choice import ImageChoice
    from tier4k.extract.images.crops import Crops

SMALLEST_SIDE = 32

LARGEST_SIDE = 2048


def image_choice(
    images: ImageGroup,
    encoder: str | None,
    preset: PresetName | None = None,
    crops: "Crops | None" = None,
) -> "ImageChoice":
    """Return the choice of an image encoder: the preset, with the options that the user passed in its place.

    Raises:
        typer.BadParameter: --image-size has no valid value.
    """
    from tier4k.extract.encoders.image_choice import PRESETS, ImageChoice

    options: dict[str, Any] = {
        "encoder": encoder,
        "preprocessing": images.preprocessing,
        "image_size": _image_size(images.image_size),
        "feature": images.feature,
        "precision": images.precision,
        "crops": crops,
    }
    given_options = {name: value for name, value in options.items() if value is not None}
    base = PRESETS[preset] if preset else ImageChoice()
    return replace(base, **given_options)


def find_encoders(
    source: "SourceTable",
    choice: "ImageChoice",
    text_encoder: str,
    weights: WeightsGroup,
) -> "tuple[ImageEncoder, TextEncoder]":
    """Return the two encoders with their weights; weights beside the data set are found too.

    Raises:
        TierError: An encoder or its weights do not exist.
    """
    from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder

    folders = weight_folders(source)
    image = find_image_encoder(choice, weights.image_weights, folders)
    text = find_text_encoder(text_encoder, weights.text_weights, folders)
    return image, text


def weight_folders(source: "SourceTable") -> Sequence[Path]:
    """Return the folders where weights are searched for a data set."""
    from tier4k.extract.weights.files import search_folders

    return search_folders(source.path.parent)


def _image_size(text: str | None) -> ImageSize | None:
    if text is None or text == "full":
        return cast(Literal["full"] | None, text)
    if not (text.isdecimal() and SMALLEST_SIDE <= int(text) <= LARGEST_SIDE):
        raise typer.BadParameter(
            f"{text!r} is neither a number of pixels nor 'full': "
            f"pass a number from {SMALLEST_SIDE} to {LARGEST_SIDE}, or full",
            param_hint="--image-size",
        )
    return int(text)
