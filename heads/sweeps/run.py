"""Fit the cells of a sweep; runs on disk are read and not fitted again."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.stores.find import no_note
from tier4k.heads.protocol.fit import fit_plans
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.results.find_run import stored_run
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.grid import Cell
from tier4k.heads.sweeps.plans import distinct_plans, plan_cells
from tier4k.heads.sweeps.processes import SEMAPHORES_OF_POOL, fit_in_processes
from tier4k.heads.sweeps.semaphores import semaphores_fit

Unit = list[Plan]
"""Plans that differ in their targets only, which are fitted together."""


def run_sweep(
    manifest: Manifest,
    features: Path,
    cells: Sequence[Cell],
    out: Path,
    command: Sequence[str] = (),
    jobs: int = 1,
    finished: Progress = no_progress,
    begun: Progress = no_progress,
    note: Callable[[str], None] = no_note,
) -> Iterator[Run]:
    """Fit every cell that is not on disk yet, and yield all runs, each once, in the order of their units.

    With one process, a unit's runs are yielded as soon as they are written, before the next unit is fitted.
    All stores are found and all options are resolved before the first fit, so that a mistake in one cell
    does not end a sweep in the middle.

    Args:
        manifest: The data set.
        features: Folder of stores.
        cells: Cells to fit.
        out: Folder of runs.
        command: Command line, recorded in the runs.
        jobs: Number of processes; the runs are the same for any number. Where /dev/shm has no room for the
            semaphores of several processes, one process fits all runs.
        finished: Called with (heads fitted, heads to be fitted in all).
        begun: Called once, before the first fit, with (runs that are on disk, runs in all).
        note: Called with a sentence about every store that is taken for want of one with the default options.

    Raises:
        StoreError: Features of a cell are not stored.
        TierError: The options of a cell do not fit each other or the data.
    """
    plans = distinct_plans(plan_cells(manifest, features, cells, note))
    begun(len(plans) - len(missing_plans(plans, out)), len(plans))
    yield from run_plans(plans, out, command, jobs, finished)


def run_plans(
    plans: Sequence[Plan],
    out: Path,
    command: Sequence[str] = (),
    jobs: int = 1,
    finished: Progress = no_progress,
) -> Iterator[Run]:
    """Fit every plan whose run is not on disk yet, and yield all runs, as `run_sweep` does."""
    units = _group_into_units(plans)
    total = sum(_missing_fits(unit, out) for unit in units)
    if jobs > 1 and semaphores_fit(SEMAPHORES_OF_POOL):
        yield from _run_in_processes(units, out, command, jobs, lambda done: finished(done, total))
        return
    before = 0
    for unit in units:
        fits = _missing_fits(unit, out)
        yield from fit_plans(unit, out, command, _count_from(before, total, finished))
        before += fits


def _run_in_processes(
    units: Sequence[Unit],
    out: Path,
    command: Sequence[str],
    jobs: int,
    finished: Callable[[int], None],
) -> Iterator[Run]:
    """Fit incomplete units in processes, and read complete units in this process."""
    incomplete = [unit for unit in units if missing_plans(unit, out)]
    fitted: dict[str, list[Run]] = {}
    if incomplete:
        runs_of_units = fit_in_processes(fit_plans, incomplete, out, command, jobs, finished)
        for unit, runs in zip(incomplete, runs_of_units, strict=True):
            fitted[unit[0].without_targets] = runs
    for unit in units:
        yield from fitted.get(unit[0].without_targets) or fit_plans(unit, out, command)


def _count_from(
    before: int,
    total: int,
    finished: Progress,
) -> Progress:
    """Return a listener for one unit that adds the number of heads fitted by earlier units."""
    return lambda done, _: finished(before + done, total)


def missing_plans(unit: Sequence[Plan], out: Path) -> list[Plan]:
    """Return the distinct plans whose runs are not on disk."""
    plans: dict[str, Plan] = {}
    for plan in unit:
        if stored_run(out, plan.config) is None:
            plans[plan.config.digest] = plan
    return list(plans.values())


def _missing_fits(unit: Sequence[Plan], out: Path) -> int:
    return sum(plan.fits for plan in missing_plans(unit, out))


def _group_into_units(plans: Sequence[Plan]) -> list[Unit]:
    """Group plans into units, in the order of the first plan of each unit."""
    units: dict[str, Unit] = {}
    for plan in plans:
        units.setdefault(plan.without_targets, []).append(plan)
    return list(units.values())
