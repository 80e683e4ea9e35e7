"""Options of the protocol, the head and its training."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.ranges import not_negative, within
from tier4k.heads.data.choices import FOLDS, REPEATS, SEED, SEEDS, Method, SplitRule
from tier4k.heads.regressors.choices import HeadName, RecipeName

if TYPE_CHECKING:
    from tier4k.heads.protocol.options import FitOptions

DEFAULT_HEAD = "mlp"

MethodOption = Annotated[
    Method,
    typer.Option(
        "--method",
        metavar="nr|fr|pr",
        help="Fusion: no, full or partial reference.",
        rich_help_panel=panels.FEATURES,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="For networks: auto, cpu, cuda, cuda:N.",
        autocompletion=choices(("auto", "cpu", "cuda")),
        rich_help_panel=panels.HEAD,
    ),
]


@dataclass(frozen=True)
class SplitGroup:
    """Options that split rows into training, validation and test rows."""

    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="RULE",
            help="prompt, random, generator, published, column:NAME, …",
            autocompletion=choices(get_args(SplitRule)),
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = "prompt"
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            callback=within(REPEATS),
            metavar="N",
            help="Repeats, each with its own seed.",
            show_default="10, or one per part",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            callback=within(FOLDS),
            metavar="K",
            help="Cross-validation: K repeats that test every row once.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            callback=within(SEED),
            metavar="N",
            help="Seed of the first repeat.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = 0

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits of this group.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.protocol.options import FitOptions

        return FitOptions(
            split=self.split,
            repeats=self.repeats,
            folds=self.folds,
            seed=self.seed,
        )


@dataclass(frozen=True)
class FitGroup(SplitGroup):
    """Options that determine how heads are fitted: splits, seeds, the kind of head and the recipe."""

    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            callback=within(SEEDS),
            metavar="N",
            help="Heads fitted on each split.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = 1
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="NAME",
            help="mlp, ridge, svr, …",
            show_default=f"{DEFAULT_HEAD}, or the preset's",
            autocompletion=choices(get_args(HeadName)),
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    recipe: Annotated[
        RecipeName,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="cached, or published (as in TIER-4K).",
            rich_help_panel=panels.HEAD,
        ),
    ] = "cached"

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits, the head and the recipe of this group.

        Raises:
            HeadError: There is no such head.
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.regressors.names import require_head

        head = self.head or DEFAULT_HEAD
        require_head(head)
        return replace(
            super().fit_options(),
            seeds=self.seeds,
            estimator=head,
            recipe=self.recipe,
        )


@dataclass(frozen=True)
class TrainingGroup:
    """Options of the head and of the training that replace options of the recipe."""

    learning_rate: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="X",
            help="Learning rate.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="X",
            help="Weight decay.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    train_batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Training batch size.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of epochs.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    set_option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another option, such as hidden=256.",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
