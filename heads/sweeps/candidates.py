"""The candidates of a search: a seeded random sample of a grid's combinations.

The sample does not depend on any result. Test rows of one repeat are training rows of others. A search that
proposed combinations by earlier results of all repeats would therefore use scores of a repeat's test rows in
the choice of that repeat.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.regressors.options import option_text
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.sweeps.grid import Cell, SweepError, grid_cells
from tier4k.heads.sweeps.plans import plan_cells

# Options that determine the rows or the scores of the evaluation. SRCCs on different rows cannot be compared.
EVALUATION_OPTIONS = ("benchmark", "split", "repeats", "folds", "seed", "seeds")

Values = dict[str, list[Any]]
"""The distinct values of each option that a grid has several values of."""


@dataclass(frozen=True)
class Candidate:
    """One combination of a grid's values.

    Attributes:
        options: Value of each option that the grid has several values of.
        cell: The cell that fits the candidate on the repeats, for every target.
        plan: The plan that fits it on the inner splits of the repeats, without their test rows.
    """

    options: dict[str, Any]
    cell: Cell
    plan: Plan

    @property
    def text(self) -> str:
        """The options as they are shown, such as "head=svr, C=2"."""
        parts = [f"{name}={option_text(value)}" for name, value in self.options.items()]
        return ", ".join(parts) or "the only combination"


def searched_values(grid: Mapping[str, Any]) -> Values:
    """Return the distinct values of each option that the grid has several values of, without the targets.

    Raises:
        SweepError: An option of the evaluation has several values.
    """
    values = {}
    for name, given in grid.items():
        if name == "target" or not isinstance(given, list):
            continue
        distinct = list(dict.fromkeys(given))
        if len(distinct) > 1:
            values[name] = distinct
    several = [name for name in EVALUATION_OPTIONS if name in values]
    if several:
        raise SweepError(
            f"a search compares results on the same rows, but the grid has several values of "
            f"{', '.join(several)}: use one value of each"
        )
    return values


def sample(
    values: Values,
    count: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Draw combinations of values at random, each at most once.

    Args:
        values: The values of each option.
        count: Number of combinations; all are returned if there are fewer. A smaller sample is the beginning
            of a larger one.
        seed: Seed of the order of all combinations.
    """
    lengths = [len(options) for options in values.values()]
    combinations = []
    for number in np.random.default_rng(seed).permutation(math.prod(lengths))[:count]:
        indices = np.unravel_index(number, lengths) if lengths else ()
        chosen = {}
        for (name, options), index in zip(values.items(), indices, strict=True):
            chosen[name] = options[index]
        combinations.append(chosen)
    return combinations


def plan_candidates(
    manifest: Manifest,
    features: Path,
    grid: Mapping[str, Any],
    base: Cell,
    count: int,
) -> list[Candidate]:
    """Return the candidates of a search in the order of the sample; every problem is found here.

    Args:
        manifest: The data set.
        features: Folder of stores.
        grid: As for `tier4k.heads.sweeps.grid.grid_cells`.
        base: Options that the grid does not name.
        count: Number of candidates, at most.

    Raises:
        SweepError: The grid cannot be searched.
        TierError: As for `tier4k.heads.sweeps.plans.plan_cells`.
    """
    values = searched_values(grid)
    seed = _cell(manifest, grid, base, {name: options[0] for name, options in values.items()}).options.seed
    combinations = sample(values, count, seed)
    cells = [_cell(manifest, grid, base, combination) for combination in combinations]
    _require_one_benchmark(cells)
    plans = plan_cells(manifest, features, [_inner(cell) for cell in cells])
    _require_searchable(plans)
    candidates = []
    for combination, cell, plan in zip(combinations, cells, plans, strict=True):
        candidates.append(Candidate(combination, cell, plan))
    return candidates


def _cell(
    manifest: Manifest,
    grid: Mapping[str, Any],
    base: Cell,
    combination: Mapping[str, Any],
) -> Cell:
    """Return the cell of one combination with all targets; no heads are kept."""
    cells, _ = grid_cells({**grid, **combination}, manifest, base)
    if not cells:
        raise SweepError(
            "full reference (fr) needs an image prompt in every row: leave fr out of the grid, or use "
            "benchmark = 'I2I'"
        )
    targets = tuple(target for cell in cells for target in cell.options.targets)
    return replace(cells[0], options=replace(cells[0].options, targets=targets, models="none"))


def _inner(cell: Cell) -> Cell:
    return replace(cell, options=replace(cell.options, selection=True))


def _require_one_benchmark(cells: Sequence[Cell]) -> None:
    if len({cell.options.benchmark for cell in cells}) > 1:
        raise SweepError(
            "a search compares results on the same rows, but the methods' default benchmarks differ: "
            "add one benchmark to the grid, such as benchmark = 'I2I'"
        )


def _require_searchable(plans: Sequence[Plan]) -> None:
    for plan in plans:
        if plan.config.recipe == "published":
            raise SweepError(
                "--recipe published cannot be searched: it fixes the options of the training, and its "
                "published value is that of the best test epoch, chosen by the test rows. "
                "Use recipe = 'cached'"
            )
        if has_epochs(plan.estimator) and not plan.config.head["validation_fraction"]:
            raise SweepError(
                f"head {plan.estimator} with validation_fraction = 0 cannot be searched: without validation "
                "rows its training does not stop early, and its result is the last epoch, however much that "
                "overfits. Use a validation_fraction above 0"
            )
