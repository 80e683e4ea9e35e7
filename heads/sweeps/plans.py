"""Plan the cells of a sweep or a search: find their stores and resolve their options."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.stores.find import no_note
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.data.find_features import find_chosen
from tier4k.heads.data.fusion import used_streams
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.sweeps.grid import Cell


def plan_cells(
    manifest: Manifest,
    features: Path,
    cells: Sequence[Cell],
    note: Callable[[str], None] = no_note,
) -> list[Plan]:
    """Return a plan of every cell.

    Args:
        manifest: The data set.
        features: Folder of stores.
        cells: Cells to fit.
        note: Called with a sentence about every store that is taken for want of one with the defaults.

    Raises:
        StoreError: Features of a cell are not stored.
        TierError: The options of a cell do not fit each other or the data.
    """
    stores: dict[tuple[EncoderChoice, tuple[str, ...]], FeatureStores] = {}
    cell_stores = []
    notes: list[str] = []
    for cell in cells:
        options = cell.options.for_rows(manifest)
        used = used_streams(options.method, options.streams)
        choice = cell.encoders.for_streams(used, cell.options.interaction)
        if (choice, cell.scorers) not in stores:
            stores[choice, cell.scorers] = find_chosen(features, choice, cell.scorers, notes.append)
        cell_stores.append(stores[choice, cell.scorers])
    for text in dict.fromkeys(notes):
        note(text)
    return [
        plan_run(manifest, own_stores, cell.options)
        for cell, own_stores in zip(cells, cell_stores, strict=True)
    ]


def distinct_plans(plans: Sequence[Plan]) -> list[Plan]:
    """Return one plan of each run: combinations that differ in what no stream uses have equal runs."""
    plan_of_run: dict[str, Plan] = {}
    for plan in plans:
        plan_of_run.setdefault(plan.config.digest, plan)
    return list(plan_of_run.values())
