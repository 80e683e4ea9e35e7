"""Options for scores that another program computed, and for metrics in which lower is better."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels

ScoreColumnOption = Annotated[
    str | None,
    typer.Option(
        "--score-column",
        metavar="NAME",
        help="Column of --scores.",
        show_default="NAME, or the only numbers",
        rich_help_panel=panels.SCORES,
    ),
]


@dataclass(frozen=True)
class GivenScoresGroup:
    """Options of scores that another program computed."""

    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Scores of another program, instead of --scorer.",
            rich_help_panel=panels.SCORES,
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the scores in --scores, such as MUSIQ.",
            rich_help_panel=panels.SCORES,
        ),
    ] = None
    score_column: ScoreColumnOption = None

    def require_or_scorer(
        self,
        scorer: str | None,
        output: Path | None,
        has_network_options: bool,
    ) -> None:
        """Require either a scorer, or a file of scores with its name and nothing to compute.

        Raises:
            typer.BadParameter: Both or neither are passed, or options of the other.
        """
        if scorer is None and self.scores is None:
            raise typer.BadParameter(
                "pass a scorer, or --scores FILE --name NAME with scores of another program",
                param_hint="--scorer / --scores",
            )
        if scorer is not None and (self.scores or self.name or self.score_column):
            raise typer.BadParameter(
                "--scorer computes scores, and --scores, --name and --score-column are for scores of another "
                "program: leave out --scorer, or the other three options",
                param_hint="--scorer / --scores",
            )
        if scorer is None and not self.name:
            raise typer.BadParameter("--scores needs the name of the metric", param_hint="--name")
        if scorer is None and has_network_options:
            raise typer.BadParameter(
                "--weights and --precision are options of a scorer, and the scores of --scores are computed "
                "already: leave these two options out",
                param_hint="--weights / --precision",
            )
        if scorer is None and output:
            raise typer.BadParameter(
                "-o writes scores that --scorer computes, and the scores of --scores are in a file already: "
                "leave -o out",
                param_hint="--output",
            )


LowerIsBetterOption = Annotated[
    bool,
    typer.Option(
        "--lower-is-better",
        help="Lower scores mean better images.",
        rich_help_panel=panels.SCORES,
    ),
]


GivenFeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--scores",
        metavar="FILE",
        help="Scores of the images, for heads that use them as inputs.",
        rich_help_panel=panels.FEATURES,
    ),
]
