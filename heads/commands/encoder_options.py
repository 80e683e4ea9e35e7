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

IMAGE_ENCODERS = (
    "resnet18, resnet50, inceptionv4, vit, efficientnet-lite0, clip, timm:NAME, hf:NAME_OR_PATH, or an "
    "encoder in code as package.module:NAME."
)
TEXT_ENCODERS = "bert-base-uncased, minilm, or hf:NAME_OR_PATH."
STREAMS_HELP = "all, or some of text, image and image-prompt with + between them, such as image+text."

ImageEncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--image-encoder",
        help=f"{IMAGE_ENCODERS} May be repeated; NAME@SIZE, such as clip@448, sets --image-size for this "
        "encoder alone.",
        show_default=DEFAULT_IMAGE_ENCODER,
    ),
]
TextEncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text-encoder", help=f"{TEXT_ENCODERS} May be repeated.", show_default=DEFAULT_TEXT_ENCODER
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="hf:NAME_OR_PATH",
        help="A checkpoint with an image encoder and a text encoder (CLIP, SigLIP), which are used besides "
        "--image-encoder and --text-encoder.",
    ),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        help="Named set of encoders with their options, and for fit-head of a head with its options: best "
        "needs no download, clip needs CLIP's weights. An option that you also pass overrides the set.",
    ),
]
StagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stages",
        metavar="[NAME=]LIST",
        help="Stages of multilevel features to use, for example 3,4 or stage5,head; clip=3,4 is for the "
        "image encoder clip only. May be repeated.",
        show_default="all",
    ),
]
StreamsOption = Annotated[
    str,
    typer.Option("--streams", metavar="LIST", help=f"Streams of the method that heads use: {STREAMS_HELP}"),
]
TemplatesOption = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        metavar="FILE",
        help="TOML file of texts about quality and agreement, for the interaction templates; `tier extract "
        "--encoder` stores their features.",
        show_default="built-in texts",
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", help="Arithmetic of the encoders; tf32 needs an NVIDIA GPU. Default: fp32."),
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
            help="Features of an image: the pooled output of the network, as published (pooled), or mean and "
            "standard deviation of every stage (multilevel).",
        ),
    ] = None
    preprocessing: Annotated[
        PreprocessingName | None,
        typer.Option(
            "--preprocessing",
            help="Preprocessing of images: as in TIER-4K (reference), or as in the training of the encoder "
            "(native). Default: it depends on the encoder.",
        ),
    ] = None
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="N|full",
            help="Use whole images without a crop: resize the shorter side to N pixels, or keep the size "
            "(full).",
        ),
    ] = None
    precision: PrecisionOption = None
    store_dtype: Annotated[
        StoreDtype | None,
        typer.Option(
            "--store-dtype",
            help="Type of the stored numbers of images and texts; float16 takes half of the space. Default: "
            "float32; where features of one type alone are stored, that type.",
        ),
    ] = None


@dataclass(frozen=True)
class WeightsGroup:
    """Options for the weights of one image encoder and of one text encoder."""

    image_weights: Annotated[
        Path | None,
        typer.Option(
            "--image-weights",
            help="Weights of the image encoder: a file (.pth, .safetensors, .npz), the index of sharded "
            "weights, or a folder with one of them; for hf:NAME_OR_PATH, a folder in the Hugging Face "
            "layout; for heads on an encoder in code, package.module:NAME.",
        ),
    ] = None
    text_weights: Annotated[
        Path | None,
        typer.Option("--text-weights", help="Folder with the text encoder, in the Hugging Face layout."),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the user passed any weights."""
        return self.image_weights is not None or self.text_weights is not None
