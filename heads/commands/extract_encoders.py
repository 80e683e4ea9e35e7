"""The encoders and inputs of `tier extract`: options that name them, and how the encoders are found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.datasets.choices import IMAGE_STREAMS
from tier4k.extract.datasets.streams import ALL, parse_streams
from tier4k.heads.commands.encoder_options import STREAMS_HELP, EncodersGroup, WeightsGroup
from tier4k.heads.commands.encoders import weight_folders
from tier4k.heads.commands.loading import require_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.choices import Stream
    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
    from tier4k.heads.data.encoder_choice import EncoderChoice


@dataclass(frozen=True)
class InputsGroup(EncodersGroup):
    """Options that name encoders, and the inputs that they encode."""

    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --encoder: TOML file of texts about quality and agreement that the checkpoint encodes "
            "besides the prompts.",
            show_default="built-in texts",
        ),
    ] = None
    streams: Annotated[
        str,
        typer.Option(metavar="LIST", help=f"Streams whose inputs are encoded: {STREAMS_HELP}"),
    ] = "all"

    @property
    def names_any(self) -> bool:
        """Whether the user named an encoder or templates."""
        return bool(self.encoder or self.image_encoder or self.text_encoder or self.templates)

    def parsed_streams(self) -> "tuple[Stream, ...]":
        """Return the streams; an option that has no effect on them is refused.

        Raises:
            DataError: A name is no stream.
            EncoderError: --encoder names no checkpoint with two towers.
            typer.BadParameter: An option has no effect.
        """
        from tier4k.extract.encoders.two_towers import require_checkpoint

        if self.encoder:
            require_checkpoint(self.encoder)
        streams = parse_streams(self.streams)
        if self.image_encoder and streams == ("text",):
            raise _without_effect("--image-encoder", "add image to --streams, or leave it out")
        if self.text_encoder and "text" not in streams:
            raise _without_effect("--text-encoder", "add text to --streams, or leave it out")
        if self.templates and "text" not in streams:
            raise _without_effect("--templates", "add text to --streams, or leave it out")
        if self.templates and not self.encoder:
            raise _without_effect("--templates", "pass a checkpoint with two towers as --encoder")
        return streams

    def streams_of(self, sources: "Sequence[SourceTable]") -> "tuple[Stream, ...]":
        """Return the streams that are encoded: without prompts, "all" means the streams of images.

        Raises:
            TierError: As for `parsed_streams`; or a table lacks the prompts that the user named.
        """
        from tier4k.extract.datasets.source import have_prompts

        streams = self.parsed_streams()
        if self.streams == ALL and not have_prompts(sources):
            return IMAGE_STREAMS
        require_prompts(sources, streams)
        return streams


def _without_effect(option: str, remedy: str) -> typer.BadParameter:
    return typer.BadParameter(f"this option has no effect: {remedy}", param_hint=option)


def find_chosen_encoders(
    sources: "Sequence[SourceTable]",
    group: InputsGroup,
    choice: "EncoderChoice",
    weights: WeightsGroup,
) -> "tuple[list[Encoder], InputChoice]":
    """Find the encoders of the chosen streams.

    Args:
        sources: The data sets; weights beside the first are found too.
        group: The named encoders and streams.
        choice: The same encoders with their options; those of --encoder come first.
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

    streams = group.streams_of(sources)
    _require_one_encoder_for_weights(group, choice, weights)
    folders = weight_folders(sources)
    templates = read_templates(group.templates).texts
    precision = choice.images[0].precision
    used = choice.for_streams(streams)
    images = [find_image_encoder(image, weights.image_weights, folders) for image in used.images]
    encoders: list[Encoder] = [*images]
    templates_of = {}
    for number, name in enumerate(used.texts):
        if group.encoder and number == 0:
            text = find_text_tower(choice.images[0].encoder, folders, precision)
            templates_of[text.signature] = templates
        else:
            text = find_text_encoder(name, weights.text_weights, folders, precision)
        encoders.append(text)
    return encoders, InputChoice(streams, templates_of)


def _require_one_encoder_for_weights(
    group: InputsGroup,
    choice: "EncoderChoice",
    weights: WeightsGroup,
) -> None:
    """Refuse weights that are passed for several encoders, or for a checkpoint, whose folder is its name."""
    passed = {
        "image": (weights.image_weights, len(choice.images)),
        "text": (weights.text_weights, len(choice.texts)),
    }
    for stream, (path, encoders) in passed.items():
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
