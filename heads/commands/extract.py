"""`tier extract`: stage 1, which encodes images and prompts."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.data_options import FEATURES, FeaturesOption, RowsGroup, StreamedDataOrPlanArgument
from tier4k.heads.commands.encoder_options import ImageGroup, PresetOption, WeightsGroup
from tier4k.heads.commands.extract_encoders import InputsGroup
from tier4k.heads.commands.other_command import next_command
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.commands.reporter import ConsoleReporter
from tier4k.heads.commands.run_options import found_run
from tier4k.heads.commands.speed_options import EngineGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.choices import Stream
    from tier4k.extract.encoders.choices import StoreDtype
    from tier4k.extract.images.crops import Crops
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.encoders.finetuned import SavedEncoders
    from tier4k.heads.extraction.encoders import EncoderRequest


@dataclass(frozen=True)
class FinetunedGroup:
    """Options that select the finetuned encoders of a run."""

    finetuned: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            callback=found_run,
            help="Run of fit-head --finetune whose encoders are used.",
            rich_help_panel=panels.END_TO_END,
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --finetuned: score column of the encoders.",
            rich_help_panel=panels.END_TO_END,
        ),
    ] = None
    repeat: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="With --finetuned: repeat of the encoders.",
            show_default="the first",
            rich_help_panel=panels.END_TO_END,
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
            metavar="N",
            help="Random crops, besides the centre crop.",
            rich_help_panel=panels.FEATURES,
        ),
    ] = None
    crops_seed: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Seed of the random crops.",
            rich_help_panel=panels.FEATURES,
        ),
    ] = 0

    def parse(self) -> "Crops | None":
        """Return the crops, or None if the user did not pass --crops and the preset decides."""
        from tier4k.extract.images.crops import Crops

        if self.crops_seed and not self.crops:
            raise typer.BadParameter(
                "--crops-seed has no effect without random crops: pass --crops too", param_hint="--crops-seed"
            )
        return None if self.crops is None else Crops(self.crops, self.crops_seed)


CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="torch.compile the networks: a slow start, then faster.",
        rich_help_panel=panels.SPEED,
    ),
]
ShardOption = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Share of this machine, the I-th of N.",
        rich_help_panel=panels.SPEED,
    ),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option(
        "--plan-only",
        help="Hash the inputs, write the plan, and encode nothing.",
        rich_help_panel=panels.SPEED,
    ),
]
RehashOption = Annotated[
    bool,
    typer.Option(
        "--rehash",
        help="Hash all images, also those hashed before.",
        rich_help_panel=panels.SPEED,
    ),
]


def extract(
    context: typer.Context,
    data: StreamedDataOrPlanArgument,
    *,
    features: FeaturesOption = FEATURES,
    encoders: InputsGroup,
    weights: WeightsGroup,
    finetuned: FinetunedGroup,
    preset: PresetOption = None,
    images: ImageGroup,
    random_crops: CropsGroup,
    rows: RowsGroup,
    speed: EngineGroup,
    compiled: CompileOption = False,
    shard: ShardOption = "1/1",
    plan_only: PlanOnlyOption = False,
    rehash: RehashOption = False,
    quiet: QuietOption = False,
) -> None:
    """Encode every image and prompt of DATA that is not stored yet."""
    from tier4k.heads.extraction.extract import extract_features

    options = replace(speed.extraction_options(), compiled=compiled, part=_parse_part(shard))
    console = Console(quiet=quiet)
    reporter = ConsoleReporter(console)
    if finetuned.finetuned:
        _require_no_encoder_options(encoders, weights, preset, images, random_crops)
        dtype = images.store_dtype or "float32"
        streams = encoders.request(ImageGroup(), None, None, weights).parsed_streams()
        _extract_finetuned(console, data, features, finetuned, dtype, streams, rows, options, rehash)
        return
    finetuned.require_empty()
    request = encoders.request(images, preset, random_crops.parse(), weights)
    if plan_only:
        _write_plan(console, data, features, request, rows, rehash)
        return
    extract_features(
        data,
        request.image_encoder,
        request.text_encoder,
        features,
        encoder=request.encoder,
        streams=request.streams,
        templates=request.templates,
        image_weights=request.image_weights,
        text_weights=request.text_weights,
        table=rows.choice,
        on_error=rows.on_error,
        rehash=rehash,
        options=options,
        reporter=reporter,
        command=sys.argv,
    )
    if shard == "1/1":
        _print_next_command(console, context, data, rows)


def _print_next_command(
    console: Console,
    context: typer.Context,
    data: "Sequence[str]",
    rows: RowsGroup,
) -> None:
    """Print the command that fits heads, unless it cannot read the data: plans and streams have no scores."""
    from tier4k.extract.datasets.rows.open import open_stream
    from tier4k.extract.inputs.record import is_record

    for path in data:
        if is_record(Path(path)) or open_stream(path, rows.choice, needs_prompts=False):
            return
    console.command(next_command(context, "fit-head"))


def _require_no_encoder_options(
    encoders: InputsGroup,
    weights: WeightsGroup,
    preset: str | None,
    images: ImageGroup,
    random_crops: CropsGroup,
) -> None:
    """Refuse options that choose encoders, as --finetuned chooses them; --store-dtype is allowed."""
    of_images = replace(images, store_dtype=None)
    if encoders.names_any or preset or weights.given or of_images != ImageGroup() or random_crops.crops:
        raise typer.BadParameter(
            "the encoders come from the run: leave out --image-encoder, --text-encoder, --encoder, "
            "--templates, --preset, the weights, --crops and the options of the image features",
            param_hint="--finetuned",
        )


def _write_plan(
    console: Console,
    data: "Sequence[str]",
    features: Path,
    request: "EncoderRequest",
    rows: RowsGroup,
    rehash: bool,
) -> None:
    from tier4k.heads.extraction.extract import Extraction

    reporter = ConsoleReporter(console)
    job = Extraction.of(data, request, features, rows.choice, rows.on_error, rehash, reporter)
    record = job.write_plan()
    counts = f"{len(job.inputs.images):,} images and {len(job.inputs.prompts):,} prompts"
    console.result(f"{record.path}: the plan of {len(job.inputs.rows):,} rows with {counts}")


def _extract_finetuned(
    console: Console,
    data: "Sequence[str]",
    features: Path,
    group: FinetunedGroup,
    store_dtype: "StoreDtype",
    streams: "tuple[Stream, ...]",
    rows: RowsGroup,
    options: "ExtractionOptions",
    rehash: bool,
) -> None:
    from tier4k.heads.extraction.extract import extract_finetuned

    assert group.finetuned is not None
    encoders = extract_finetuned(
        data,
        group.finetuned,
        group.target,
        group.repeat,
        features,
        streams=streams,
        store_dtype=store_dtype,
        table=rows.choice,
        on_error=rows.on_error,
        rehash=rehash,
        options=options,
        reporter=ConsoleReporter(console),
        command=sys.argv,
    )
    _print_next_options(console, group.finetuned, encoders)


def _print_next_options(
    console: Console,
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
    console.command(f"To fit heads on these features, pass {' '.join(names)}")
    split = f"{run / 'splits.json'}:{encoders.repeat}"
    options = shlex.join(["--target", encoders.target, "--split", split, "--start", str(run)])
    console.command(
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
