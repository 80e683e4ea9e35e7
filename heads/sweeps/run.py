"""The cells of a sweep are fitted; runs that exist are not fitted again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.pipeline.handover import semaphores_fit
from tier4k.extract.stores.find import find_score_stores, find_stores
from tier4k.heads.protocol.fit import fit_plans
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.protocol.publish import Run
from tier4k.heads.sweeps.grid import Cell
from tier4k.heads.sweeps.processes import SEMAPHORES_OF_POOL, fit_in_processes


def run_sweep(
    manifest: Manifest,
    features: Path,
    cells: Sequence[Cell],
    out: Path,
    command: Sequence[str] = (),
    jobs: int = 1,
    finished: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Run]:
    """Fit every cell that is not on disk yet, and yield the runs; what one process fits is yielded as soon as it is there.

    Every store is looked for and every cell's options are resolved before the first fit, so that nothing wrong ends a sweep in the middle.

    Args:
        manifest: The data set.
        features: Folder of stores.
        cells: What to fit.
        out: Folder of runs.
        command: Command line, recorded.
        jobs: Processes that fit at once; the runs are the same for any number. Where /dev/shm has no room for the
            semaphores of processes, one process fits.
        finished: Called with (heads fitted, heads to be fitted in all).

    Raises:
        StoreError: Features of a cell are not there.
        TierError: The options of a cell do not fit each other or the data.
    """
    units = _alike(plan_cells(manifest, features, cells))
    total = sum(plan.fits for unit in units for plan in _missing(unit, out))
    if jobs > 1 and semaphores_fit(SEMAPHORES_OF_POOL):
        # Processes are for what is to be fitted; what is there is only read.
        needed = [unit for unit in units if _missing(unit, out)]
        fitted = (
            fit_in_processes(needed, out, command, jobs, lambda done: finished(done, total)) if needed else []
        )
        of_unit = {unit[0].alike: runs for unit, runs in zip(needed, fitted, strict=True)}
        for unit in units:
            yield from of_unit.get(unit[0].alike) or fit_plans(unit, out, command)
        return
    before = 0
    for unit in units:
        here = sum(plan.fits for plan in _missing(unit, out))
        yield from fit_plans(unit, out, command, _from(before, total, finished))
        before += here


def plan_cells(manifest: Manifest, features: Path, cells: Sequence[Cell]) -> list[Plan]:
    """A plan of every cell; the arguments and errors are those of `run_sweep`."""
    stores: dict[tuple[ImageChoice, str], tuple[FeatureStore, FeatureStore]] = {}
    cells = [
        replace(cell, options=replace(cell.options, zero_shot=find_score_stores(features, cell.scorers)))
        for cell in cells
    ]
    for cell in cells:
        if (cell.image, cell.text_encoder) not in stores:
            stores[cell.image, cell.text_encoder] = find_stores(features, cell.image, cell.text_encoder)
    return [plan_run(manifest, *stores[cell.image, cell.text_encoder], cell.options) for cell in cells]


def _from(before: int, total: int, finished: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Counts on after what earlier units fitted."""
    return lambda done, _: finished(before + done, total)


def _missing(unit: Sequence[Plan], out: Path) -> list[Plan]:
    """Plans, each once, whose runs are not on disk."""
    return [plan for run, plan in {plan.config.id: plan for plan in unit}.items() if not (out / run).exists()]


def _alike(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans that can be fitted at once, in the order of the first of each."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan.alike, []).append(plan)
    return list(groups.values())
