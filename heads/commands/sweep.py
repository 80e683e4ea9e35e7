"""`tier sweep`: fit many heads in one command."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tier4k.extract.datasets.streams import ALL, names_text
from tier4k.extract.encoders.choices import PresetName
from tier4k.heads.commands.console import Console, print_runs
from tier4k.heads.commands.data_options import FEATURES, DataArgument, FeaturesOption, RatedRowsGroup
from tier4k.heads.commands.encoder_options import (
    EncodersGroup,
    ImageGroup,
    PresetOption,
    StreamsOption,
    TemplatesOption,
)
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.fit_options import DeviceOption, FitGroup
from tier4k.heads.commands.interruption import SWEEP, explain_interruption
from tier4k.heads.commands.loading import load_data
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.planned_runs import planned_table
from tier4k.heads.commands.printed_commands import fit_command, passed_options, single_values
from tier4k.heads.commands.reporter import ConsoleReporter
from tier4k.heads.commands.run_options import RUNS, OutOption
from tier4k.heads.commands.sweep_options import (
    DryRunOption,
    GridOption,
    JobsOption,
    ModelsOption,
    PaperOption,
    SearchOption,
    SweepOutputOption,
)
from tier4k.heads.results.choices import KeptModels

if TYPE_CHECKING:
    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.results.run import Run
    from tier4k.heads.sweeps.blocks import Grid
    from tier4k.heads.sweeps.search import Search

ENCODER_OPTIONS = ("encoder", "image_encoder", "text_encoder")


@dataclass(frozen=True)
class _Job:
    """What a sweep or a search fits, and where.

    Attributes:
        manifest: The data set.
        features, out: Folders of stores and of runs.
        choice: The encoders where the grid names none.
        options: Options that the grid does not name.
        jobs: Number of processes.
    """

    manifest: "Manifest"
    features: Path
    out: Path
    choice: "EncoderChoice"
    options: "FitOptions"
    jobs: int


def sweep(
    data: DataArgument,
    *,
    features: FeaturesOption = FEATURES,
    paper: PaperOption = False,
    grid: GridOption = None,
    dry_run: DryRunOption = False,
    encoders: EncodersGroup,
    preset: PresetOption = None,
    images: ImageGroup,
    streams: StreamsOption = "all",
    templates: TemplatesOption = None,
    fit: FitGroup,
    models: ModelsOption = "none",
    rows: RatedRowsGroup,
    out: OutOption = RUNS,
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    search: SearchOption = None,
    output: SweepOutputOption = None,
    printing: OutputGroup,
) -> None:
    """Fit the paper's table or all combinations of a grid, or search it."""
    from tier4k.extract.encoders.templates import read_templates
    from tier4k.heads.regressors.mlp.device import fitting_device
    from tier4k.heads.reporting.tables import require_table_suffix

    _require_one_task(paper, grid, search, models, dry_run)
    if output:
        require_table_suffix(output)
    texts = read_templates(templates).texts if templates else ()
    options = replace(fit.fit_options(), models=models, templates=texts, device=fitting_device(device))
    choice = encoder_choice(encoders, images, preset)
    blocks = _blocks(grid, encoders, streams, preset, fit.head)
    if preset and not grid:
        options = options.with_preset(preset, fit.head)
    console = printing.console()
    needs_prompts = _may_use_prompts(blocks or [{"streams": streams}])
    manifest = load_data(console, data, features, rows, needs_prompts=needs_prompts).manifest
    job = _Job(manifest, features, out, choice, options, jobs)
    if dry_run:
        _list_runs(console, job, blocks or "paper", streams)
        return
    if search:
        passed = passed_options(
            encoders,
            images,
            fit,
            rows,
            features=(features, FEATURES),
            out=(out, RUNS),
            templates=(templates, None),
            preset=(preset, None),
        )
        runs = [_search(console, job, blocks, search, data, passed)]
    else:
        runs = _sweep(console, job, blocks or "paper", streams)
        _print_totals(console, runs, out)
    if output:
        _write(console, runs, output)


def _blocks(
    grid: Path | None,
    encoders: EncodersGroup,
    streams: str,
    preset: PresetName | None,
    head: str | None,
) -> list[dict[str, Any]]:
    """Return the blocks of the grid's file with what the command line says about them; none of no file."""
    from tier4k.heads.sweeps.blocks import as_blocks, with_preset, with_streams

    if grid is None:
        return []
    blocks = with_streams(as_blocks(grid), streams)
    for block in blocks:
        _require_encoders_once(encoders, block)
    return with_preset(blocks, preset, head) if preset else blocks


def _may_use_prompts(blocks: Sequence[dict[str, Any]]) -> bool:
    """Return whether a combination may have the stream of text prompts."""
    for block in blocks:
        values = block.get("streams", ALL)
        listed = values if isinstance(values, list) else [values]
        if any(value == ALL or names_text(str(value)) for value in listed):
            return True
    return False


def _require_one_task(
    paper: bool,
    grid: Path | None,
    search: int | None,
    models: KeptModels,
    dry_run: bool,
) -> None:
    if paper == (grid is not None):
        raise typer.BadParameter(
            "one of the two options is needed: pass either --paper or --grid FILE",
            param_hint="--paper / --grid",
        )
    if search and dry_run:
        raise typer.BadParameter(
            "a search draws combinations, and --dry-run lists all of them: leave out --search",
            param_hint="--dry-run",
        )
    if search and grid is None:
        raise typer.BadParameter("--search chooses from a grid: pass --grid FILE too", param_hint="--search")
    if search and models != "none":
        raise typer.BadParameter(
            "a search keeps no heads, because every repeat may choose another one: leave out --models, and "
            "fit the chosen options with fit-head",
            param_hint="--models",
        )


def _require_encoders_once(encoders: EncodersGroup, block: dict[str, Any]) -> None:
    """Refuse encoders on the command line that those of the grid would replace."""
    for option in ENCODER_OPTIONS:
        others = ENCODER_OPTIONS if option == "encoder" else ("encoder", option)
        in_grid = [other for other in others if other in block]
        if getattr(encoders, option) and in_grid:
            name = f"--{option.replace('_', '-')}"
            raise typer.BadParameter(
                f"the grid names encoders too ({', '.join(in_grid)}): write {option} into the grid, or leave "
                f"out {name}",
                param_hint=name,
            )


def _sweep(
    console: Console,
    job: _Job,
    grid: "Grid",
    streams: str,
) -> "list[Run]":
    from tier4k.heads.reporting.tidy import sweep_table, tidy
    from tier4k.heads.sweeps.sweep import sweep

    def begun(existing: int, total: int) -> None:
        """Print how many runs are fitted, before the first fit."""
        console.note(f"{existing:,} of {_runs(total)} exist already in {job.out}")

    with explain_interruption(SWEEP), console.task("sweep") as count:
        runs = sweep(
            job.manifest,
            grid,
            job.features,
            job.out,
            image_encoder=job.choice.images,
            text_encoder=job.choice.texts,
            streams=streams,
            options=job.options,
            jobs=job.jobs,
            command=sys.argv,
            progress=count,
            begun=begun,
            note=ConsoleReporter(console).warned,
        )
    console.show(sweep_table(tidy(runs)))
    return runs


def _list_runs(
    console: Console,
    job: _Job,
    grid: "Grid",
    streams: str,
) -> None:
    """Print the runs of a sweep, their options, and which of them exist."""
    from tier4k.heads.sweeps.sweep import plan_sweep

    runs = plan_sweep(
        job.manifest,
        grid,
        job.features,
        job.out,
        image_encoder=job.choice.images,
        text_encoder=job.choice.texts,
        streams=streams,
        options=job.options,
        note=ConsoleReporter(console).warned,
    )
    console.show(planned_table(runs))
    missing = [run for run in runs if not run.exists]
    heads = sum(run.fits for run in missing)
    console.note(
        f"{len(runs) - len(missing):,} of {_runs(len(runs))} exist already in {job.out}; heads to fit: "
        f"{heads:,}"
    )


def _search(
    console: Console,
    job: _Job,
    blocks: list[dict[str, Any]],
    count: int,
    data: Sequence[Path],
    passed: dict[str, Any],
) -> "Run":
    """Search a grid; print the result, and the commands that fit the chosen options."""
    from tier4k.heads.reporting.terminal.results import choices_table
    from tier4k.heads.results.layout import CANDIDATES
    from tier4k.heads.sweeps.grid import left_out_lines
    from tier4k.heads.sweeps.search import search

    with explain_interruption(SWEEP), console.task("search") as show:
        found = search(
            job.manifest,
            blocks,
            count,
            job.features,
            job.out,
            image_encoder=job.choice.images,
            text_encoder=job.choice.texts,
            options=job.options,
            jobs=job.jobs,
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
    number = len(found.candidates)
    candidates = f"the {f'{number} candidates' if number > 1 else 'candidate'} on the selection parts"
    console.note(f"{job.out / CANDIDATES} has the runs of {candidates}", "dim")
    _print_commands(console, found, data, passed | single_values(blocks))
    return found.run


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
        console.command(f"  {fit_command(data, chosen_options)}")


def _runs(number: int) -> str:
    return f"{number:,} {'run' if number == 1 else 'runs'}"


def _print_totals(
    console: Console,
    runs: "Sequence[Run]",
    out: Path,
) -> None:
    fitted = [run for run in runs if not run.found]
    seconds = sum(run.seconds for run in fitted)
    existing_count = len(runs) - len(fitted)
    console.result(
        f"{out} has {_runs(len(runs))} of this sweep: {existing_count} existed already, "
        f"{len(fitted)} {'was' if len(fitted) == 1 else 'were'} fitted in {seconds:.1f} s",
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
