"""`tier sweep`: fit many heads in one command."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tier4k.extract.datasets.streams import ALL, names_text
from tier4k.heads.commands.console import Console, print_runs
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup, StreamsOption, TemplatesOption
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.interruption import SWEEP, explain_interruption
from tier4k.heads.commands.loading import load_data
from tier4k.heads.commands.options import (
    FEATURES,
    RUNS,
    DataArgument,
    FeaturesOption,
    FitGroup,
    OutOption,
    RatedRowsGroup,
)
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.reporter import ConsoleReporter
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.sweeps.choices import SweepName

if TYPE_CHECKING:
    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.results.run import Run
    from tier4k.heads.sweeps.search import Search

ENCODER_OPTIONS = ("encoder", "image_encoder", "text_encoder")

# Options that may be repeated on the command line, with what is between their values in a grid.
SEVERAL_VALUES = {"image_encoder": "+", "text_encoder": "+", "stages": None}

SweepPresetOption = Annotated[
    SweepName | None,
    typer.Option(
        "--preset",
        help="paper: fit the runs of the paper's table (FR and NR on I2I, NR on T2I, NR and PR on all rows).",
    ),
]
GridOption = Annotated[
    Path | None,
    typer.Option("--grid", help="TOML file with options of fit-head; each has a value or a list of values."),
]
ModelsOption = Annotated[
    KeptModels,
    typer.Option(
        "--models", help="Fitted heads to keep: those of all repeats, of the first repeat, or none."
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(min=1, help="Number of processes that fit heads at the same time; they share the cores."),
]
SearchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Search: every repeat chooses among N random combinations of the grid without its test rows; "
        "the choice is then tested. The result is one run.",
    ),
]
SweepDeviceOption = Annotated[
    str,
    typer.Option(
        help="Device on which heads that are networks are fitted: cpu, cuda or cuda:N; auto is the CPU. "
        "Other heads are fitted on the CPU.",
    ),
]
SweepOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write with the table of all runs: .csv, .parquet, .xlsx or .tex."
    ),
]


def sweep(
    data: DataArgument,
    *,
    features: FeaturesOption = FEATURES,
    preset: SweepPresetOption = None,
    grid: GridOption = None,
    encoders: EncodersGroup,
    images: ImageGroup,
    streams: StreamsOption = "all",
    templates: TemplatesOption = None,
    fit: FitGroup,
    models: ModelsOption = "none",
    rows: RatedRowsGroup,
    out: OutOption = RUNS,
    jobs: JobsOption = 1,
    device: SweepDeviceOption = "auto",
    search: SearchOption = None,
    output: SweepOutputOption = None,
    printing: OutputGroup,
) -> None:
    """Fit the paper's table or all combinations of a grid, or search it; existing runs are not refitted."""
    from tier4k.extract.encoders.templates import read_templates
    from tier4k.heads.regressors.mlp.device import fitting_device
    from tier4k.heads.reporting.tables import require_table_suffix
    from tier4k.heads.sweeps.grid import as_grid

    _require_one_task(preset, grid, search, models)
    if output:
        require_table_suffix(output)
    texts = read_templates(templates).texts if templates else ()
    options = replace(fit.fit_options(), models=models, templates=texts, device=fitting_device(device))
    choice = encoder_choice(encoders, images)
    values = as_grid(grid) if grid else {}
    _require_encoders_once(encoders, values)
    if streams != ALL:
        values.setdefault("streams", streams)
    console = printing.console()
    needs_prompts = _may_use_prompts(values, streams)
    manifest = load_data(console, data, features, rows, needs_prompts=needs_prompts).manifest
    if search:
        found = _search(console, manifest, features, values, choice, options, search, out, jobs)
        passed = _passed_options(
            encoders,
            images,
            fit,
            rows,
            features=(features, FEATURES),
            out=(out, RUNS),
            templates=(templates, None),
        )
        _print_commands(console, found, data, passed | _single_values(values))
        runs = [found.run]
    else:
        runs = _sweep(
            console, manifest, features, values if grid else "paper", choice, streams, options, out, jobs
        )
        _print_totals(console, runs, out)
    if output:
        _write(console, runs, output)


def _may_use_prompts(grid: dict[str, Any], streams: str) -> bool:
    """Return whether a combination may have the stream of text prompts."""
    values = grid.get("streams", streams)
    listed = values if isinstance(values, list) else [values]
    return any(value == ALL or names_text(str(value)) for value in listed)


def _require_one_task(
    preset: SweepName | None,
    grid: Path | None,
    search: int | None,
    models: KeptModels,
) -> None:
    if (preset is None) == (grid is None):
        raise typer.BadParameter(
            "one of the two options is needed: pass either --preset paper or --grid FILE",
            param_hint="--preset / --grid",
        )
    if search and grid is None:
        raise typer.BadParameter("--search chooses from a grid: pass --grid FILE too", param_hint="--search")
    if search and models != "none":
        raise typer.BadParameter(
            "a search keeps no heads, because every repeat may choose another one: leave out --models, and "
            "fit the chosen options with fit-head",
            param_hint="--models",
        )


def _require_encoders_once(encoders: EncodersGroup, grid: dict[str, Any]) -> None:
    """Refuse encoders on the command line that those of the grid would replace."""
    for option in ENCODER_OPTIONS:
        others = ENCODER_OPTIONS if option == "encoder" else ("encoder", option)
        in_grid = [other for other in others if other in grid]
        if getattr(encoders, option) and in_grid:
            name = f"--{option.replace('_', '-')}"
            raise typer.BadParameter(
                f"the grid names encoders too ({', '.join(in_grid)}): write {option} into the grid, or leave "
                f"out {name}",
                param_hint=name,
            )


def _sweep(
    console: Console,
    manifest: "Manifest",
    features: Path,
    grid: "dict[str, Any] | str",
    choice: "EncoderChoice",
    streams: str,
    options: "FitOptions",
    out: Path,
    jobs: int,
) -> "list[Run]":
    from tier4k.heads.reporting.tidy import sweep_table, tidy
    from tier4k.heads.sweeps.sweep import sweep

    reporter = ConsoleReporter(console)
    with explain_interruption(SWEEP), console.task("sweep") as count:
        runs = sweep(
            manifest,
            grid,
            features,
            out,
            image_encoder=choice.images,
            text_encoder=choice.texts,
            streams=streams,
            options=options,
            jobs=jobs,
            command=sys.argv,
            progress=count,
            note=reporter.warned,
        )
    console.show(sweep_table(tidy(runs)))
    return runs


def _search(
    console: Console,
    manifest: "Manifest",
    features: Path,
    grid: dict[str, Any],
    choice: "EncoderChoice",
    options: "FitOptions",
    count: int,
    out: Path,
    jobs: int,
) -> "Search":
    from tier4k.heads.reporting.terminal import choices_table
    from tier4k.heads.results.layout import CANDIDATES
    from tier4k.heads.sweeps.grid import left_out_lines
    from tier4k.heads.sweeps.search import search

    with explain_interruption(SWEEP), console.task("search") as show:
        found = search(
            manifest,
            grid,
            count,
            features,
            out,
            image_encoder=choice.images,
            text_encoder=choice.texts,
            options=options,
            jobs=jobs,
            command=sys.argv,
            progress=show,
        )
    for line in left_out_lines(found.left_out):
        console.warn(line)
    if not console.is_for_programs:
        console.show(choices_table(found.run.results))
    console.note(
        "Each repeat chose its options without its test rows; the SRCC below is an estimate for the whole "
        "procedure, search included."
    )
    print_runs(console, [found.run])
    candidates = f"the {len(found.candidates)} candidates on the selection parts"
    console.note(f"{out / CANDIDATES} has the runs of {candidates}", "dim")
    return found


def _print_commands(
    console: Console,
    found: "Search",
    data: Sequence[Path],
    options: dict[str, Any],
) -> None:
    """Print for each target the command that fits the options that most repeats chose."""
    console.note("The search keeps no heads. To fit the options that most repeats chose:")
    for target, chosen in found.run.results.chosen.items():
        candidate = found.most_chosen(target)
        count = f"{target}: chosen in {chosen.count(candidate.text)} of {len(chosen)} repeats"
        console.note(f"  {count}", "dim")
        chosen_options = options | candidate.options | {"target": target}
        if not candidate.cell.options.stages:
            chosen_options.pop("stages", None)  # the streams have no images, which the stages are for
        if candidate.plan.device != "cpu":
            chosen_options["device"] = candidate.plan.device
        console.command(f"  {_fit_command(data, chosen_options)}")


def _fit_command(data: Sequence[Path], options: dict[str, Any]) -> str:
    """Return the command line of fit-head with these options, which are named as in a grid."""
    from tier4k.heads.regressors.options import option_text
    from tier4k.heads.sweeps.grid import options_of_heads

    arguments = ["tier", "fit-head", *map(str, data)]
    head_options = options_of_heads([options.get("head", "mlp")])
    for name, value in options.items():
        if name == "templates" and "templates" not in str(options.get("interaction")):
            continue  # the chosen candidate compares no image with templates
        if name in head_options:
            arguments += ["--set", f"{name}={option_text(value)}"]
        elif name in SEVERAL_VALUES:
            for part in _parts(name, value):
                arguments += [f"--{name.replace('_', '-')}", part]
        elif value != "":
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(arguments)


def _parts(name: str, value: Any) -> list[str]:
    """Return the values of an option that may be repeated; a grid writes them as one text."""
    if isinstance(value, list):
        return value
    return str(value).split(SEVERAL_VALUES[name])


def _passed_options(*groups: object, **others: tuple[object, object]) -> dict[str, Any]:
    """Return the options that differ from their defaults.

    Args:
        groups: Dataclasses of options.
        others: Value and default of other options, by name.
    """
    passed: dict[str, Any] = {}
    for name, (value, default) in others.items():
        if value != default:
            passed[name] = value
    for group in groups:
        for field in fields(group):  # type: ignore[arg-type]
            if getattr(group, field.name) != field.default:
                passed[field.name] = getattr(group, field.name)
    return passed


def _single_values(grid: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a grid fixes; those with several distinct values are chosen by a search."""
    fixed = {}
    for name, value in grid.items():
        values = value if isinstance(value, list) else [value]
        if name != "target" and len(set(values)) == 1:
            fixed[name] = values[0]
    return fixed


def _print_totals(
    console: Console,
    runs: "Sequence[Run]",
    out: Path,
) -> None:
    fitted = [run for run in runs if not run.found]
    seconds = sum(run.seconds for run in fitted)
    existing_count = len(runs) - len(fitted)
    console.result(
        f"{out} has {len(runs)} runs of this sweep: {existing_count} existed already, "
        f"{len(fitted)} were fitted in {seconds:.1f} s",
    )


def _write(
    console: Console,
    runs: "Sequence[Run]",
    output: Path,
) -> None:
    from tier4k.heads.reporting.tables import write_table
    from tier4k.heads.reporting.tidy import tidy

    write_table(tidy(runs), output)
    content = "SRCC and PLCC" if output.suffix == ".tex" else "all metrics, one in each line"
    console.result(f"{output}: {content}")
