"""Options that name encoders, their features, their weights and their streams."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tier4k.extract.encoders.choices import (
    DEFAULT_IMAGE_ENCODER,
    DEFAULT_TEXT_ENCODER,
    FeatureName,
    Precision,
    PresetName,
    StoreDtype,
)
from tier4k.extract.images.choices import PreprocessingName
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices

IMAGE_ENCODERS = (
    "efficientnet-lite0",
    "resnet18",
    "resnet50",
    "inceptionv4",
    "vit",
    "clip",
    "timm:",
    "hf:",
)
TEXT_ENCODERS = ("minilm", "bert-base-uncased", "hf:")
STREAMS_HELP = "Some of text+image+image-prompt (fr), or all."

ImageEncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--image-encoder",
        metavar="NAME",
        help="Image encoder; may repeat.",
        show_default=DEFAULT_IMAGE_ENCODER,
        autocompletion=choices(IMAGE_ENCODERS),
        rich_help_panel=panels.FEATURES,
    ),
]
TextEncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text-encoder",
        metavar="NAME",
        help="Text encoder; may repeat.",
        show_default=DEFAULT_TEXT_ENCODER,
        autocompletion=choices(TEXT_ENCODERS),
        rich_help_panel=panels.FEATURES,
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Image and text encoder in one: hf:NAME_OR_PATH.",
        rich_help_panel=panels.FEATURES,
    ),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="best or clip: encoders, and a head with its options.",
        rich_help_panel=panels.FEATURES,
    ),
]
StagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stages",
        metavar="LIST",
        help="Stages of --feature multilevel: 3,4.",
        show_default="all",
        rich_help_panel=panels.FEATURES,
    ),
]
StreamsOption = Annotated[
    str,
    typer.Option("--streams", metavar="LIST", help=STREAMS_HELP, rich_help_panel=panels.FEATURES),
]
TemplatesOption = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        metavar="FILE",
        help="Texts for interaction templates.",
        show_default="built-in",
        rich_help_panel=panels.FEATURES,
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Arithmetic: fp32, tf32, bf16 or fp16.",
        show_default="fp32",
        rich_help_panel=panels.FEATURES,
    ),
]


@dataclass(frozen=True)
class EncodersGroup:
    """Options that name the encoders of images and texts."""

    encoder: EncoderOption = None
    image_encoder: ImageEncodersOption = None
    text_encoder: TextEncodersOption = None


@dataclass(frozen=True)
class ImageGroup:
    """Options for the preprocessing of images and for the features of image encoders."""

    feature: Annotated[
        FeatureName | None,
        typer.Option(
            "--feature",
            metavar="NAME",
            help="pooled, or multilevel (of every stage).",
            show_default="pooled",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    preprocessing: Annotated[
        PreprocessingName | None,
        typer.Option(
            "--preprocessing",
            metavar="NAME",
            help="reference (TIER-4K) or native.",
            show_default="by encoder",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="N|full",
            help="Whole image: its shorter side, or full.",
            show_default="a crop",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    precision: PrecisionOption = None
    store_dtype: Annotated[
        StoreDtype | None,
        typer.Option(
            "--store-dtype",
            metavar="NAME",
            help="float32, or float16 (half the space).",
            show_default="float32",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None


@dataclass(frozen=True)
class WeightsGroup:
    """Options for the weights of one image encoder and of one text encoder."""

    image_weights: Annotated[
        Path | None,
        typer.Option(
            "--image-weights",
            metavar="PATH",
            help="Weights of the image encoder.",
            show_default="searched",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    text_weights: Annotated[
        Path | None,
        typer.Option(
            "--text-weights",
            metavar="DIR",
            help="Folder with the text encoder.",
            show_default="searched",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the user passed any weights."""
        return self.image_weights is not None or self.text_weights is not None
