"""A sweep as one function: the runs of a grid, or of the paper's table."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.datasets.streams import ALL
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.encoder_choice import ImageEncoders
from tier4k.heads.extraction.reporter import LOG
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.grid import (
    WITHOUT_HEADS,
    Cell,
    Cells,
    Grid,
    SweepError,
    as_grid,
    grid_cells,
    left_out_lines,
    paper_cells,
)
from tier4k.heads.sweeps.run import run_sweep

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
    note: Callable[[str], None] = LOG.warned,
) -> list[Run]:
    """Fit every combination of a grid's values; runs that exist are read and not fitted again.

    Args:
        manifest: The data set, from `load_manifest`.
        grid: A value or a list of values for each option of `tier fit-head`, with underscores in the names,
            such as {"head": "svr", "C": [1, 10], "benchmark": "I2I"}; a TOML file with the same;
            or "paper", the runs of the paper's table. Each target is a run of its own.
        features: Folder of stores; those of all combinations must exist.
        out: Folder of runs.
        image_encoder, text_encoder, encoder: Encoders of combinations for which the grid names none, as for
            `find_features`.
        streams: Streams of "paper", or of a grid that names none, such as "image+text".
        options: Options that the grid does not name, for example the split; by default no heads are kept.
        jobs: Number of processes; the runs are the same for any number.
        command: Command line, which is recorded in the runs.
        finished: Called with every run as soon as it is on disk (with several processes: after the last), for
            example to log it in a tracker.
        progress: Called with (heads fitted, heads to be fitted in all).
        note: Called with a sentence about combinations that no run can have, and about stores that are taken
            for want of one with the default options; by default a warning is logged.

    Returns:
        All runs, each once.

    Raises:
        SweepError: The grid has an unknown option or value, or no combination is left.
        StoreError: Features of a combination are not stored.
        TierError: The options of a combination do not fit each other or the data.
    """
    cells = _cells(manifest, grid, Cell.of(image_encoder, text_encoder, encoder, options), streams)
    for line in left_out_lines(cells.left_out):
        note(line)
    if not cells.cells:
        raise SweepError("no combination is left: change the methods, the benchmarks or the streams")
    runs = []
    for run in run_sweep(manifest, Path(features), cells.cells, Path(out), command, jobs, progress, note):
        if finished:
            finished(run)
        runs.append(run)
    return runs


def _cells(
    manifest: Manifest,
    grid: Grid,
    base: Cell,
    streams: str,
) -> Cells:
    """Return the runs of a grid, or of the paper's table."""
    if grid == PAPER:
        return paper_cells(manifest, base, streams)
    values = as_grid(grid)
    if streams != ALL:
        values.setdefault("streams", streams)
    return grid_cells(values, manifest, base)
