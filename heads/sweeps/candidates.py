"""The candidates of a search: a seeded random sample of a grid's combinations.

The sample does not depend on any result. Test rows of one repeat are training rows of others. A search that
proposed combinations by earlier results of all repeats would therefore use scores of a repeat's test rows in
the choice of that repeat.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.extraction.reporter import LOG
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.regressors.options import option_text
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.sweeps.blocks import Block, SweepError
from tier4k.heads.sweeps.grid import Cell, grid_cells, require_valid_block
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


class Candidates(NamedTuple):
    """The candidates of a search.

    Attributes:
        candidates: The candidates, each of which is another run.
        left_out: Number of drawn combinations that no run can have, by the reason.
    """

    candidates: list[Candidate]
    left_out: Mapping[str, int]


def searched_values(blocks: Sequence[Block]) -> list[Values]:
    """Return the distinct values of the options that a search chooses, for each block of a grid.

    A search chooses the options with several values, and those in which the blocks differ, but no targets.

    Raises:
        SweepError: An option of the evaluation has several values, or blocks have different targets.
    """
    names = searched_options(blocks)
    several = [name for name in EVALUATION_OPTIONS if name in names]
    if several:
        raise SweepError(
            f"a search compares results on the same rows, but the grid has several values of "
            f"{', '.join(several)}: use one value of each, in every block"
        )
    if len({tuple(_values(block, "target")) for block in blocks}) > 1:
        raise SweepError(
            "a search makes choices for each target, but the blocks of the grid have different targets: "
            "write target before the first block"
        )
    return [{name: _values(block, name) for name in block if name in names} for block in blocks]


def searched_options(blocks: Sequence[Block]) -> list[str]:
    """Return the names of the options, without the targets, that have several values in a grid."""
    names = dict.fromkeys(name for block in blocks for name in block if name != "target")
    return [name for name in names if _is_searched(blocks, name)]


def _is_searched(blocks: Sequence[Block], name: str) -> bool:
    values = dict.fromkeys(value for block in blocks for value in _values(block, name))
    return len(values) > 1 or not all(name in block for block in blocks)


def _values(block: Block, name: str) -> list[Any]:
    """Return the distinct values of an option of a block; none if the block does not name it."""
    if name not in block:
        return []
    given = block[name]
    return list(dict.fromkeys(given)) if isinstance(given, list) else [given]


def draw(blocks: Sequence[Values], seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield all combinations of the values of each block in a random order, with the number of the block.

    Args:
        blocks: The values of each option, for each block.
        seed: Seed of the order.
    """
    shapes = [[len(options) for options in values.values()] for values in blocks]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    for number in np.random.default_rng(seed).permutation(ends[-1]):
        block = int(np.searchsorted(ends, number, side="right"))
        before = ends[block - 1] if block else 0
        indices = np.unravel_index(number - before, shapes[block]) if shapes[block] else ()
        chosen = {}
        for (name, options), index in zip(blocks[block].items(), indices, strict=True):
            chosen[name] = options[index]
        yield block, chosen


def plan_candidates(
    manifest: Manifest,
    features: Path,
    blocks: Sequence[Block],
    base: Cell,
    count: int,
) -> Candidates:
    """Return the candidates of a search in the order of the sample; every problem is found here.

    Combinations that no run can have are left out. Of combinations with equal runs, such as those of text
    alone with different image encoders, the first is a candidate.

    Args:
        manifest: The data set.
        features: Folder of stores.
        blocks: As for `tier4k.heads.sweeps.grid.block_cells`.
        base: Options that the grid does not name.
        count: Number of candidates, at most. Fewer candidates are the beginning of more.

    Raises:
        SweepError: The grid cannot be searched.
        TierError: As for `tier4k.heads.sweeps.plans.plan_cells`.
    """
    left_out: Counter[str] = Counter()
    drawn = _possible(manifest, blocks, base, left_out)
    candidates: dict[str, Candidate] = {}
    while chosen := list(islice(drawn, count - len(candidates))):
        cells = [cell for _, cell in chosen]
        _require_one_benchmark([*(candidate.cell for candidate in candidates.values()), *cells])
        plans = plan_cells(manifest, features, [_inner(cell) for cell in cells], LOG.warned)
        _require_searchable(plans)
        for (combination, cell), plan in zip(chosen, plans, strict=True):
            candidates.setdefault(plan.config.digest, Candidate(combination, cell, plan))
    if not candidates:
        raise SweepError(f"no run can have a combination of the grid: {'; '.join(left_out)}")
    return Candidates(list(candidates.values()), left_out)


def _possible(
    manifest: Manifest,
    blocks: Sequence[Block],
    base: Cell,
    left_out: Counter[str],
) -> Iterator[tuple[dict[str, Any], Cell]]:
    """Yield combinations in the order of the sample, with their cells; count those that no run can have."""
    for number in range(len(blocks)):
        require_valid_block(blocks, number, base.options.estimator)
    values = searched_values(blocks)
    for number, combination in draw(values, _seed(blocks[0], base)):
        cells, reasons = grid_cells({**blocks[number], **combination}, manifest, base)
        if cells:
            yield combination, _with_all_targets(cells)
        left_out.update(dict.fromkeys(reasons, 1))


def _seed(block: Block, base: Cell) -> int:
    """Return the seed of the order, which is that of the repeats."""
    (seed,) = _values(block, "seed") or [base.options.seed]
    return seed


def _with_all_targets(cells: Sequence[Cell]) -> Cell:
    """Return one cell for the targets of all cells; no heads are kept."""
    targets = tuple(target for cell in cells for target in cell.options.targets)
    return replace(cells[0], options=replace(cells[0].options, targets=targets, models="none"))


def _inner(cell: Cell) -> Cell:
    return replace(cell, options=replace(cell.options, selection=True))


def _require_one_benchmark(cells: Sequence[Cell]) -> None:
    if len({cell.options.rows for cell in cells}) > 1:
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
