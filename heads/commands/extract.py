"""`tier extract`: stage 1, which encodes images and prompts."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line
from tier4k.heads.commands.encoder_options import ImageGroup, PresetOption, WeightsGroup
from tier4k.heads.commands.encoders import encoder_choice, weight_folders
from tier4k.heads.commands.encoding import encode
from tier4k.heads.commands.extract_encoders import InputsGroup, find_chosen_encoders
from tier4k.heads.commands.loading import check_sources, require_prompts
from tier4k.heads.commands.options import FEATURES, DataArgument, FeaturesOption, RowsGroup, SpeedGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tier4k.extract.datasets.choices import Stream
    from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
    from tier4k.extract.encoders.image_choice import ImageChoice
    from tier4k.extract.images.crops import Crops
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.encoders.finetuned import SavedEncoders


@dataclass(frozen=True)
class FinetunedGroup:
    """Options that select the finetuned encoders of a run."""

    finetuned: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Folder of a run of `tier fit-head --finetune` whose encoders are used."
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="With --finetuned: use the encoders that were trained for this score column."),
    ] = None
    repeat: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --finetuned: use the encoders of this repeat. Default: the first repeat with "
            "encoders.",
        ),
    ] = None

    def require_empty(self) -> None:
        """Raise typer.BadParameter if --target or --repeat is passed without --finetuned."""
        if self != FinetunedGroup():
            raise typer.BadParameter(
                "--target and --repeat select encoders of a run, so they need --finetuned: pass it too",
                param_hint="--target / --repeat",
            )


@dataclass(frozen=True)
class CropsGroup:
    """Options of the random crops of images."""

    crops: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of random crops (some flipped) to store for each image, besides the centre crop.",
        ),
    ] = None
    crops_seed: Annotated[
        int,
        typer.Option(min=0, help="Seed of the random crops."),
    ] = 0

    def parse(self) -> "Crops | None":
        """Return the crops, or None if the user did not pass --crops and the preset decides."""
        from tier4k.extract.images.crops import Crops

        if self.crops_seed and not self.crops:
            raise typer.BadParameter(
                "--crops-seed has no effect without random crops: pass --crops too", param_hint="--crops-seed"
            )
        return None if self.crops is None else Crops(self.crops, self.crops_seed)


def extract(
    data: DataArgument,
    *,
    features: FeaturesOption = FEATURES,
    encoders: InputsGroup,
    weights: WeightsGroup,
    finetuned: FinetunedGroup,
    preset: PresetOption = None,
    images: ImageGroup,
    random_crops: CropsGroup,
    rows: RowsGroup,
    speed: SpeedGroup,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the networks with torch.compile: the start is slow, encoding is faster.",
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Encode only the I-th of N parts of the inputs, to share the work among N machines.",
        ),
    ] = "1/1",
) -> None:
    """Stage 1: encode every image and prompt of DATA that is not stored yet."""
    options = replace(speed.extraction_options(), compiled=compiled, part=_parse_part(shard))
    console = make_console()
    if finetuned.finetuned:
        if encoders.names_any or preset or weights.given or images != ImageGroup() or random_crops.crops:
            raise typer.BadParameter(
                "the encoders come from the run: leave out --image-encoder, --text-encoder, --encoder, "
                "--templates, --preset, the weights, --crops and the options of the image features",
                param_hint="--finetuned",
            )
        _extract_finetuned(console, data, features, finetuned, encoders.parsed_streams(), rows, options)
        return
    finetuned.require_empty()
    sources = rows.read(data, needs_prompts="text" in encoders.parsed_streams())
    choice = encoder_choice(encoders, images, preset, random_crops.parse())
    found, inputs = find_chosen_encoders(sources, encoders, choice, weights)
    _mention_clip(console, choice.for_streams(inputs.streams).images, weight_folders(sources))
    report = check_sources(console, sources, features, rows.on_error)
    encode(console, data, features, report, found, options, inputs)


def _mention_clip(
    console: "Console",
    choices: "Sequence[ImageChoice]",
    folders: "Sequence[Path]",
) -> None:
    """Print a hint if CLIP's weights exist but CLIP is not among the chosen image encoders."""
    from tier4k.extract.encoders.presets import IMAGE_PRESETS

    clip = IMAGE_PRESETS["clip"]
    if not choices or any(choice.encoder == clip.name for choice in choices):
        return
    if path := clip.weights.in_folders(folders):
        print_line(
            console, f"{path} has CLIP's weights: `--preset clip` was better than the default on AGIQA-3K"
        )


def _extract_finetuned(
    console: "Console",
    data: "Sequence[Path]",
    features: Path,
    group: FinetunedGroup,
    streams: "tuple[Stream, ...]",
    rows: RowsGroup,
    options: "ExtractionOptions",
) -> None:
    from tier4k.extract.pipeline.missing_inputs import InputChoice
    from tier4k.heads.encoders.finetuned import finetuned_encoders

    assert group.finetuned is not None
    encoders = finetuned_encoders(group.finetuned, group.target, group.repeat)
    used = [encoder for encoder in encoders.all if _has_inputs(encoder, streams)]
    if not used:
        raise typer.BadParameter(
            f"{group.finetuned} finetuned no encoder of {'+'.join(streams)}: pass other streams",
            param_hint="--streams",
        )
    sources = rows.read(data, needs_prompts="text" in streams)
    require_prompts(sources, streams)
    report = check_sources(console, sources, features, rows.on_error)
    encode(console, data, features, report, used, options, InputChoice(streams))
    _print_next_options(console, group.finetuned, encoders)


def _has_inputs(encoder: "ImageEncoder | TextEncoder", streams: "tuple[Stream, ...]") -> bool:
    if encoder.signature.stream == "text":
        return "text" in streams
    return streams != ("text",)


def _print_next_options(
    console: "Console",
    run: Path,
    encoders: "SavedEncoders",
) -> None:
    """Print the options with which `tier fit-head` uses the new features.

    The features of training rows contain the scores of the rows. A new head therefore overfits. The head of
    the run, trained further with the split of the run, does not.
    """
    from tier4k.heads.results.read import read_config

    names = []
    for stream, signature in encoders.signatures.items():
        names.append(f"--{stream}-encoder {signature.folder_name}")
    if streams := read_config(run).streams:
        names.append(f"--streams {'+'.join(streams)}")
    print_line(console, f"To fit heads on these features, pass {' '.join(names)}")
    split = f"{run / 'splits.json'}:{encoders.repeat}"
    options = shlex.join(["--target", encoders.target, "--split", split, "--start", str(run)])
    print_line(
        console,
        f"For the best head, also pass {options} (trains the head of the run further while validation "
        "rows improve)",
    )


def _parse_part(text: str) -> tuple[int, int]:
    """Return I and N of the option --shard I/N."""
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise typer.BadParameter(
            f"{text!r} is not of the form I/N with 1 <= I <= N: pass, for example, 1/4", param_hint="--shard"
        )
    return int(number), int(parts)
