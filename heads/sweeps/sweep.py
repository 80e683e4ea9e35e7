"""A sweep as one function: the runs of a grid, or of the paper's table; its plan without fitting."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.datasets.streams import ALL
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.encoder_choice import ImageEncoders
from tier4k.heads.extraction.reporter import LOG
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.results.names import run_name
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.blocks import Grid, SweepError, as_blocks, with_streams
from tier4k.heads.sweeps.grid import (
    WITHOUT_HEADS,
    Cell,
    Cells,
    block_cells,
    left_out_lines,
    paper_cells,
)
from tier4k.heads.sweeps.planned_run import PlannedRun
from tier4k.heads.sweeps.plans import plan_cells
from tier4k.heads.sweeps.run import missing_plans, run_sweep

PAPER = "paper"


def sweep(
    manifest: Manifest,
    grid: Grid,
    features: str | Path = "features",
    out: str | Path = "runs",
    *,
    image_encoder: ImageEncoders | None = None,
    text_encoder: str | Sequence[str] | None = None,
    encoder: str | ImageChoice | None = None,
    streams: str = "all",
    options: FitOptions = WITHOUT_HEADS,
    jobs: int = 1,
    command: Sequence[str] = (),
    finished: Callable[[Run], None] | None = None,
    progress: Progress = no_progress,
    begun: Progress = no_progress,
    note: Callable[[str], None] = LOG.warned,
) -> list[Run]:
    """Fit every combination of a grid's values; runs that exist are read and not fitted again.

    Args:
        manifest: The data set, from `load_manifest`.
        grid: A value or a list of values for each option of `tier fit-head`, with underscores in the names,
            such as {"head": "svr", "C": [1, 10], "benchmark": "I2I"}; a TOML file with the same;
            "paper", the runs of the paper's table; or a list of dicts (in a file: blocks that begin with
            [[grid]]), each a grid of its own, whose runs are united. Each target is a run of its own.
        features: Folder of stores; those of all combinations must exist.
        out: Folder of runs.
        image_encoder: Image encoders of combinations for which the grid names none, as for `find_features`.
        text_encoder: Text encoders of these combinations.
        encoder: Image and text encoder in one of these combinations.
        streams: Streams of "paper", or of a grid that names none, such as "image+text".
        options: Options that the grid does not name, for example the split; by default no heads are kept.
        jobs: Number of processes; the runs are the same for any number.
        command: Command line, which is recorded in the runs.
        finished: Called with every run as soon as it is on disk (with several processes: after the last), for
            example to log it in a tracker.
        progress: Called with (heads fitted, heads to be fitted in all).
        begun: Called once, before the first fit, with (runs that exist already, runs in all).
        note: Called with a sentence about combinations that no run can have, and about stores that are taken
            for want of one with the default options; by default a warning is logged.

    Returns:
        All runs, each once.

    Raises:
        SweepError: The grid has an unknown option or value, or no combination is left.
        StoreError: Features of a combination are not stored.
        TierError: The options of a combination do not fit each other or the data.
    """
    base = Cell.of(image_encoder, text_encoder, encoder, options)
    cells = _possible_cells(manifest, grid, base, streams, note)
    runs = []
    for run in run_sweep(manifest, Path(features), cells, Path(out), command, jobs, progress, begun, note):
        if finished:
            finished(run)
        runs.append(run)
    return runs


def plan_sweep(
    manifest: Manifest,
    grid: Grid,
    features: str | Path = "features",
    out: str | Path = "runs",
    *,
    image_encoder: ImageEncoders | None = None,
    text_encoder: str | Sequence[str] | None = None,
    encoder: str | ImageChoice | None = None,
    streams: str = ALL,
    options: FitOptions = WITHOUT_HEADS,
    note: Callable[[str], None] = LOG.warned,
) -> list[PlannedRun]:
    """Return the runs that `sweep` with the same arguments would fit or read, each once; fit nothing.

    Raises:
        TierError: As for `sweep`.
    """
    base = Cell.of(image_encoder, text_encoder, encoder, options)
    cells = _possible_cells(manifest, grid, base, streams, note)
    plans = plan_cells(manifest, Path(features), cells, note)
    missing = {plan.config.digest for plan in missing_plans(plans, Path(out))}
    planned: dict[str, PlannedRun] = {}
    for cell, plan in zip(cells, plans, strict=True):
        config = plan.config
        run = PlannedRun(run_name(config), config.digest not in missing, plan.fits, cell.values)
        planned.setdefault(config.digest, run)
    return list(planned.values())


def _possible_cells(
    manifest: Manifest,
    grid: Grid,
    base: Cell,
    streams: str,
    note: Callable[[str], None],
) -> list[Cell]:
    """Return the runs of a grid, or of the paper's table; note combinations that no run can have."""
    cells = _cells(manifest, grid, base, streams)
    for line in left_out_lines(cells.left_out):
        note(line)
    if not cells.cells:
        raise SweepError("no combination is left: change the methods, the benchmarks or the streams")
    return cells.cells


def _cells(
    manifest: Manifest,
    grid: Grid,
    base: Cell,
    streams: str,
) -> Cells:
    """Return the runs of a grid, or of the paper's table."""
    if grid == PAPER:
        return paper_cells(manifest, base, streams)
    return block_cells(with_streams(as_blocks(grid), streams), manifest, base)
