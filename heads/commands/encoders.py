"""Find the encoders that the options of a command name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tier4k.extract.encoders.choices import PresetName
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup, WeightsGroup

if TYPE_CHECKING:
    from tier4k.extract.datasets.source import DataSource
    from tier4k.extract.encoders.image_choice import ImageChoice
    from tier4k.extract.images.crops import Crops
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.encoders.pair import EncoderPair


def encoder_choice(
    encoders: EncodersGroup,
    images: ImageGroup,
    preset: PresetName | None = None,
) -> "EncoderChoice":
    """Return the encoders that the options of a command name, or those of the preset, or the default ones.

    Raises:
        EncoderError: The size of the images is too small or too large.
    """
    from tier4k.heads.data.encoder_choice import EncoderChoice

    choices = image_choices(images, encoders.image_encoder or (), preset)
    if not encoders.encoder:
        return EncoderChoice.of(choices, encoders.text_encoder)
    towers = image_choice(images, encoders.encoder, base_choices(preset)[0])
    return EncoderChoice.of(choices if encoders.image_encoder else [], encoders.text_encoder, towers)


def image_choices(
    images: ImageGroup,
    names: "Sequence[str]",
    preset: PresetName | None,
    crops: "Crops | None" = None,
) -> "list[ImageChoice]":
    """Return the choices of the named image encoders; without names those of the preset, or the default one.

    Named encoders have the options of the preset's first encoder.

    Raises:
        EncoderError: The size of the images is too small or too large.
    """
    bases = base_choices(preset)
    if names:
        return [image_choice(images, name, bases[0], crops) for name in names]
    return [image_choice(images, None, base, crops) for base in bases]


def base_choices(preset: PresetName | None) -> "tuple[ImageChoice, ...]":
    """Return the image encoders of a preset, or the default one."""
    from tier4k.extract.encoders.image_choice import ImageChoice
    from tier4k.heads.protocol.presets import PRESETS

    return PRESETS[preset].images if preset else (ImageChoice(),)


def image_choice(
    images: ImageGroup,
    encoder: str | None,
    base: "ImageChoice",
    crops: "Crops | None" = None,
) -> "ImageChoice":
    """Return the choice of an image encoder: the base, with the options that the user passed in its place.

    Raises:
        EncoderError: The size of the images is too small or too large.
    """
    from tier4k.extract.encoders.image_choice import parse_image_size

    options: dict[str, Any] = {
        "encoder": encoder,
        "preprocessing": images.preprocessing,
        "image_size": None if images.image_size is None else parse_image_size(images.image_size),
        "feature": images.feature,
        "precision": images.precision,
        "crops": crops,
        "store_dtype": images.store_dtype,
    }
    given_options = {name: value for name, value in options.items() if value is not None}
    return replace(base, **given_options)


def find_encoder_pair(
    sources: "Sequence[DataSource]",
    choice: "EncoderChoice",
    weights: WeightsGroup,
) -> "EncoderPair":
    """Return at most one encoder of each kind with its weights; weights beside the data set are found too.

    Raises:
        typer.BadParameter: There are several encoders of one kind.
        TierError: An encoder or its weights do not exist.
    """
    from tier4k.heads.encoders.pair import EncoderPair

    _require_one(choice.images, "image")
    _require_one(choice.texts, "text")
    return EncoderPair.find(
        next(iter(choice.images), None),
        next(iter(choice.texts), None),
        sources[0].folder,
        image_weights=weights.image_weights,
        text_weights=weights.text_weights,
    )


def _require_one(names: Sequence[object], kind: str) -> None:
    if len(names) > 1:
        raise typer.BadParameter(
            f"--finetune trains one {kind} encoder, and {len(names)} are named: pass one, or leave out "
            "--finetune",
            param_hint=f"--{kind}-encoder",
        )


def weight_folders(sources: "Sequence[DataSource]") -> Sequence[Path]:
    """Return the folders where weights are searched for data sets."""
    from tier4k.extract.weights.files import search_folders

    return search_folders(sources[0].folder)
