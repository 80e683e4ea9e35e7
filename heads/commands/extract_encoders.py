"""The encoders and inputs of `tier extract`: options that name them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.encoders.choices import PresetName
from tier4k.heads.commands import panels
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup, StreamsOption, WeightsGroup
from tier4k.heads.commands.encoders import base_choices, image_choice, image_choices

if TYPE_CHECKING:
    from tier4k.extract.images.crops import Crops
    from tier4k.heads.extraction.encoders import EncoderRequest


@dataclass(frozen=True)
class InputsGroup(EncodersGroup):
    """Options that name encoders, and the inputs that they encode."""

    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Texts that --encoder encodes too.",
            show_default="built-in",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    streams: StreamsOption = "all"

    @property
    def names_any(self) -> bool:
        """Whether the user named an encoder or templates."""
        return bool(self.encoder or self.image_encoder or self.text_encoder or self.templates)

    def request(
        self,
        images: ImageGroup,
        preset: PresetName | None,
        crops: "Crops | None",
        weights: WeightsGroup,
    ) -> "EncoderRequest":
        """Return the encoders that the options name, and the inputs that they encode.

        Raises:
            EncoderError: The size of the images is too small or too large.
        """
        from tier4k.heads.extraction.encoders import EncoderRequest

        names = self.image_encoder or ()
        has_options = images != ImageGroup() or preset or crops
        chooses = names or (has_options and not self.encoder)
        towers = None
        if self.encoder:
            towers = image_choice(images, self.encoder, base_choices(preset)[0], crops)
        return EncoderRequest(
            image_choices(images, names, preset, crops) if chooses else [],
            self.text_encoder,
            towers,
            self.streams,
            self.templates,
            weights.image_weights,
            weights.text_weights,
        )
