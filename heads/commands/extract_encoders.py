"""The encoders of `tier extract`: options that name them, and how the encoders are found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.datasets.streams import parse_streams
from tier4k.extract.encoders.choices import DEFAULT_IMAGE_ENCODER, DEFAULT_TEXT_ENCODER, PresetName
from tier4k.heads.commands.encoders import image_choice, weight_folders
from tier4k.heads.commands.options import ENCODERS, TEXT_ENCODERS, ImageGroup, WeightsGroup

if TYPE_CHECKING:
    from tier4k.extract.datasets.choices import Stream
    from tier4k.extract.datasets.layouts import SourceTable
    from tier4k.extract.encoders.image_choice import ImageChoice
    from tier4k.extract.images.crops import Crops
    from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice


@dataclass(frozen=True)
class EncodersGroup:
    """Options that name encoders, and the inputs that are encoded."""

    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="hf:NAME_OR_PATH",
            help="Checkpoint of two towers, such as CLIP or SigLIP, which gives an image encoder and a text "
            "encoder. May be repeated, and adds to --image-encoder and --text-encoder.",
        ),
    ] = None
    image_encoder: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{ENCODERS} May be repeated; images are then read once for all encoders.",
            show_default=DEFAULT_IMAGE_ENCODER,
        ),
    ] = None
    text_encoder: Annotated[
        list[str] | None,
        typer.Option(help=f"{TEXT_ENCODERS} May be repeated.", show_default=DEFAULT_TEXT_ENCODER),
    ] = None
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --encoder: TOML file of texts about quality and agreement that the text tower encodes "
            "besides the prompts.",
            show_default="built-in texts",
        ),
    ] = None
    streams: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Inputs to encode: all, or some of text, image and image-prompt, joined by +.",
        ),
    ] = "all"

    @property
    def named(self) -> bool:
        """Whether the user named an encoder or templates."""
        return bool(self.encoder or self.image_encoder or self.text_encoder or self.templates)

    def parsed_streams(self) -> "tuple[Stream, ...]":
        """Return the streams; an encoder that none of them uses is refused.

        Raises:
            DataError: A name is no stream.
            EncoderError: --encoder names no checkpoint of two towers.
            typer.BadParameter: An option has no effect.
        """
        from tier4k.extract.encoders.two_towers import require_checkpoint

        for name in self.encoder or []:
            require_checkpoint(name)
        streams = parse_streams(self.streams)
        if self.image_encoder and streams == ("text",):
            raise _without_effect("--image-encoder", "add image to --streams, or leave it out")
        if self.text_encoder and "text" not in streams:
            raise _without_effect("--text-encoder", "add text to --streams, or leave it out")
        if self.templates and "text" not in streams:
            raise _without_effect("--templates", "add text to --streams, or leave it out")
        if self.templates and not self.encoder:
            raise _without_effect("--templates", "pass a checkpoint of two towers as --encoder")
        return streams


@dataclass(frozen=True)
class ImageChoices:
    """Image encoders that the user chose, with their options.

    Attributes:
        towers: Those of --encoder.
        singles: Those of --image-encoder, or the default one if no encoder is named.
    """

    towers: "list[ImageChoice]"
    singles: "list[ImageChoice]"

    @property
    def all(self) -> "list[ImageChoice]":
        """Both, each once."""
        return list(dict.fromkeys([*self.towers, *self.singles]))


def image_choices(
    group: EncodersGroup,
    images: ImageGroup,
    preset: PresetName | None,
    crops: "Crops | None",
) -> ImageChoices:
    """Return the choices of image encoders; all have the same options."""
    names: list[str | None] = [*group.image_encoder] if group.image_encoder else []
    if not names and not group.encoder:
        names = [None]
    return ImageChoices(
        towers=[image_choice(images, name, preset, crops) for name in group.encoder or []],
        singles=[image_choice(images, name, preset, crops) for name in names],
    )


def find_chosen_encoders(
    source: "SourceTable",
    group: EncodersGroup,
    choices: ImageChoices,
    weights: WeightsGroup,
) -> "tuple[list[Encoder], InputChoice]":
    """Find the encoders of the chosen streams.

    Args:
        source: The data set; weights beside it are found too.
        group: The named encoders and streams.
        choices: The image encoders.
        weights: Weights that the user passed.

    Returns:
        Image encoders, then text encoders; and the inputs that they encode.

    Raises:
        TierError: An encoder or its weights do not exist.
        typer.BadParameter: An option has no effect, or weights are passed for several encoders.
    """
    from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
    from tier4k.extract.encoders.templates import read_templates
    from tier4k.extract.encoders.two_towers import find_text_tower
    from tier4k.extract.pipeline.missing_inputs import InputChoice

    streams = group.parsed_streams()
    texts = _text_names(group)
    _require_one_encoder_for_weights(weights, group, len(choices.singles), len(texts))
    folders = weight_folders(source)
    towers = [find_image_encoder(choice, folders=folders) for choice in choices.towers]
    encoders: list[Encoder] = []
    if streams != ("text",):
        encoders += towers
        encoders += [find_image_encoder(choice, weights.image_weights, folders) for choice in choices.singles]
    if "text" not in streams:
        return encoders, InputChoice(streams)
    templates = read_templates(group.templates).texts
    text_towers = [find_text_tower(tower, folders) for tower in towers]
    precision = choices.all[0].precision
    encoders += text_towers
    encoders += [find_text_encoder(name, weights.text_weights, folders, precision) for name in texts]
    return encoders, InputChoice(streams, {tower.signature: templates for tower in text_towers})


def _text_names(group: EncodersGroup) -> list[str]:
    """Return the distinct names of --text-encoder, or the default one if no encoder is named."""
    if group.text_encoder:
        return list(dict.fromkeys(group.text_encoder))
    return [] if group.encoder else [DEFAULT_TEXT_ENCODER]


def _require_one_encoder_for_weights(
    weights: WeightsGroup,
    group: EncodersGroup,
    images: int,
    texts: int,
) -> None:
    """Refuse weights that are passed for several encoders, or for a checkpoint, whose folder is its name."""
    paths = {"image": (weights.image_weights, images), "text": (weights.text_weights, texts)}
    for stream, (path, encoders) in paths.items():
        if path is None:
            continue
        option = f"--{stream}-weights"
        if group.encoder:
            raise typer.BadParameter(
                "the weights of --encoder are in its own folder: pass the folder as --encoder hf:DIR, or "
                f"run `tier extract` once with --encoder and once with {option}",
                param_hint=option,
            )
        if encoders > 1:
            raise typer.BadParameter(
                f"one file of weights cannot serve several {stream} encoders: run `tier extract` once for "
                "each encoder",
                param_hint=option,
            )


def _without_effect(option: str, remedy: str) -> typer.BadParameter:
    return typer.BadParameter(f"this option has no effect: {remedy}", param_hint=option)
