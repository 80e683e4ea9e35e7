"""Plan the cells of a sweep or a search: find their stores and resolve their options."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.stores.find import find_score_stores, find_stores
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.sweeps.grid import Cell


def plan_cells(
    manifest: Manifest,
    features: Path,
    cells: Sequence[Cell],
) -> list[Plan]:
    """Return a plan of every cell.

    Args:
        manifest: The data set.
        features: Folder of stores.
        cells: Cells to fit.

    Raises:
        StoreError: Features of a cell are not stored.
        TierError: The options of a cell do not fit each other or the data.
    """
    options = [_with_score_stores(cell, features) for cell in cells]
    stores: dict[tuple[ImageChoice, str], tuple[FeatureStore, FeatureStore]] = {}
    for cell in cells:
        encoders = (cell.image, cell.text_encoder)
        if encoders not in stores:
            stores[encoders] = find_stores(features, cell.image, cell.text_encoder)
    plans = []
    for cell, own_options in zip(cells, options, strict=True):
        images, texts = stores[cell.image, cell.text_encoder]
        plans.append(plan_run(manifest, images, texts, own_options))
    return plans


def _with_score_stores(cell: Cell, features: Path) -> FitOptions:
    return replace(cell.options, zero_shot=find_score_stores(features, cell.scorers))
