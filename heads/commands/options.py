"""Options that commands share: `Annotated` types, and dataclasses of several (see `groups.py`)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.extract.encoders.choices import (
    DEFAULT_IMAGE_ENCODER,
    FeatureName,
    Precision,
    PresetName,
)
from tier4k.extract.images.choices import PreprocessingName
from tier4k.heads.data.choices import Method
from tier4k.heads.regressors.choices import HeadName, RecipeName

if TYPE_CHECKING:
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.protocol.options import FitOptions

FEATURES = Path("features")

RUNS = Path("runs")

ENCODERS = "resnet18, resnet50, inceptionv4, vit, efficientnet-lite0, or timm:NAME."

# Data and folders

DataArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder in the PKU-AIGIQA-4K or AGIQA-3K layout, or a .csv, .xlsx or .parquet table."
    ),
]
FeaturesOption = Annotated[
    Path,
    typer.Option("--features", "-F", help="Folder of feature stores."),
]
OutOption = Annotated[
    Path,
    typer.Option("--out", help="Folder of runs."),
]
RunArgument = Annotated[
    Path,
    typer.Argument(help="Folder of a run that kept its heads, or of an exported model."),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(help="Folders of runs, such as runs/*."),
]
MatrixOutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="File to write: .npz or .parquet."),
]
LayoutOption = Annotated[
    LayoutName | None,
    typer.Option("--layout", help="Layout of DATA. Default: recognised by its columns."),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option("--on-error", help="Rows with problems: stop before any work, or skip them."),
]


@dataclass(frozen=True)
class RowsGroup:
    """How the rows of a data set are read."""

    layout: LayoutOption = None
    on_error: OnErrorOption = "stop"


# Encoders

ImageEncoderOption = Annotated[
    str | None,
    typer.Option("--image-encoder", help=ENCODERS, show_default=DEFAULT_IMAGE_ENCODER),
]
TextEncoderOption = Annotated[
    str,
    typer.Option("--text-encoder", help="bert-base-uncased, minilm, or hf:NAME_OR_PATH."),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option("--preset", help="A measured set of options; options given beside it override it."),
]
StagesOption = Annotated[
    str,
    typer.Option(
        "--stages",
        metavar="LIST",
        help="Stages of multilevel features to use, such as 3,4 or stage5,head.",
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", help="Arithmetic of the encoders. Default: fp32."),
]


@dataclass(frozen=True)
class ImageGroup:
    """How images are preprocessed and which features are read from the image encoder."""

    feature: Annotated[
        FeatureName | None,
        typer.Option(
            "--feature",
            help="The network's pooled output, as published, or mean and deviation of every stage "
            "(multilevel).",
        ),
    ] = None
    preprocessing: Annotated[
        PreprocessingName | None,
        typer.Option(
            "--preprocessing",
            help="Preprocessing: as TIER-4K (reference) or as in the encoder's own training (native). "
            "Default: the encoder's own.",
        ),
    ] = None
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="N|full",
            help="Use whole images without a crop: shorter side of N pixels, or the original size.",
        ),
    ] = None
    precision: PrecisionOption = None


@dataclass(frozen=True)
class WeightsGroup:
    """Weights of the two encoders."""

    image_weights: Annotated[
        Path | None,
        typer.Option("--image-weights", help="Weights of the image encoder: .pth, .safetensors or .npz."),
    ] = None
    text_weights: Annotated[
        Path | None,
        typer.Option("--text-weights", help="Folder of the text encoder in the Hugging Face layout."),
    ] = None

    @property
    def given(self) -> bool:
        """Whether the user gave any weights."""
        return self.image_weights is not None or self.text_weights is not None


@dataclass(frozen=True)
class SpeedGroup:
    """Batch size, workers and device: they change the speed of an extraction, not its features."""

    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images or crops per batch. Default: measured, the fastest."),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that read images. Default: one per core, at most 8."),
    ] = None
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:N or mps."),
    ] = "auto"

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction with these values."""
        from tier4k.extract.pipeline.options import ExtractionOptions, default_workers

        workers = default_workers() if self.workers is None else self.workers
        return ExtractionOptions(workers, self.batch_size, device=self.device)


# Rows, targets and splits

MethodOption = Annotated[
    Method,
    typer.Option("--method", help="No-reference, full-reference (I2I only) or partial-reference fusion."),
]
ROWS_HELP = "Rows with an image prompt (I2I), without one (T2I), or all; AIGIQA4K is accepted for all."
BenchmarkOption = Annotated[
    Benchmark | None,
    typer.Option(
        "--benchmark",
        parser=parse_benchmark,
        metavar="I2I|T2I|all",
        help=f"{ROWS_HELP} Default: I2I for fr, else all.",
    ),
]
AnyBenchmarkOption = Annotated[
    Benchmark,
    typer.Option("--benchmark", parser=parse_benchmark, metavar="I2I|T2I|all", help=ROWS_HELP),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="Score column; may be repeated. Default: all.", show_default=False),
]
OneTargetOption = Annotated[
    str | None,
    typer.Option("--target", help="Use one score only.", show_default="all"),
]
RepeatOption = Annotated[
    int | None,
    typer.Option("--repeat", help="Use the head of one repeat only.", show_default="mean over all"),
]


@dataclass(frozen=True)
class SplitGroup:
    """How rows are split into training, validation and test."""

    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="RULE|FILE[:N]",
            help="prompt (no prompt in both parts), random (by row), generator (leave one out), "
            "published (i % 4 == 3), or a splits.json; FILE:N is its repeat N only.",
        ),
    ] = "prompt"
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            min=1,
            help="Repeats, each with its own seed. Default: 10, or one per generator.",
        ),
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=2,
            help="K-fold cross-validation: K repeats that test every row once.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="Seed of the first repeat."),
    ] = 0

    def fit_options(self) -> "FitOptions":
        """Return what to fit, with these splits.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.data.split_request import parse_split
        from tier4k.heads.protocol.options import FitOptions

        return FitOptions(
            split=parse_split(self.split),
            repeats=self.repeats,
            folds=self.folds,
            seed=self.seed,
        )


# Heads


@dataclass(frozen=True)
class FitGroup(SplitGroup):
    """How heads are fitted: splits, seeds, the head, and its recipe."""

    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            min=1,
            help="Heads fitted on each split, to separate the variance of training from that of the split.",
        ),
    ] = 1
    head: Annotated[
        HeadName,
        typer.Option("--head", help="TIER's two layers (mlp), or another regression on the fused vector."),
    ] = "mlp"
    recipe: Annotated[
        RecipeName,
        typer.Option(
            "--recipe",
            help="Training settings: suited to stored features (cached), or TIER-4K's own (published).",
        ),
    ] = "cached"

    def fit_options(self) -> "FitOptions":
        """Return what to fit, with these options.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        return replace(
            super().fit_options(),
            seeds=self.seeds,
            estimator=self.head,
            recipe=self.recipe,
        )


@dataclass(frozen=True)
class TrainingGroup:
    """Options of the head and its training that replace those of the recipe."""

    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Replaces the recipe's learning rate."),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(min=0, help="Replaces the recipe's weight decay."),
    ] = None
    train_batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Replaces the recipe's batch size."),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Replaces the recipe's number of epochs."),
    ] = None
    set_option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Sets any other option of the head or of the training, such as --set hidden=256.",
        ),
    ] = None
