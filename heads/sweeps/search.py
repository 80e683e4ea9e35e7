"""A search through a grid: Optuna proposes combinations of values from the results of earlier ones.

The search maximizes the SRCC on rows that were held out of training. It never uses the test rows.
"""

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.heads.protocol.fit import fit_plans
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.protocol.publish import Run
from tier4k.heads.results.write import require_writable
from tier4k.heads.sweeps.grid import Cell, SweepError, grid_cells
from tier4k.heads.sweeps.run import plan_cells

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial


JOURNAL = "search.journal"

# Options that determine the rows or the scores of the evaluation. SRCCs on different rows cannot be compared.
EVALUATION_OPTIONS = ("benchmark", "split", "repeats", "folds", "seed", "seeds")

REMEDY = "leave out head svr, --recipe published and validation_fraction = 0, which hold no rows out"

Combination = Mapping[str, Any]
"""A value of each option that the grid has several values of."""


@dataclass(frozen=True)
class TriedCombination:
    """A combination of a grid's values, and the runs of its targets.

    Attributes:
        chosen: Value of each option that the grid has several values of.
        runs: The run of each target.
        held_out_srcc: Mean over targets and repeats of the SRCC on rows held out of training; may be NaN.
    """

    chosen: dict[str, Any]
    runs: list[Run]
    held_out_srcc: float

    @property
    def rank(self) -> float:
        """The held-out SRCC, with -inf for NaN: Optuna accepts no NaN, and NaN is never the best."""
        return self.held_out_srcc if math.isfinite(self.held_out_srcc) else -math.inf


def search(
    manifest: Manifest,
    features: Path,
    grid: Mapping[str, Any],
    base: Cell,
    count: int,
    out: Path,
    command: Sequence[str] = (),
    finished: Progress = no_progress,
) -> list[TriedCombination]:
    """Try `count` combinations of a grid's values, each once; return all tried combinations, the best first.

    Trials are stored in a journal in the folder of runs. A repeated search continues from the journal,
    and tries only the rest of `count`.

    Args:
        manifest: The data set.
        features: Folder of stores.
        grid: As for `tier4k.heads.sweeps.grid.grid_cells`. The search chooses from its lists, except from
            `target`: the SRCCs of the targets are averaged.
        base: Options that the grid does not name.
        count: Number of combinations to try; all combinations are tried if there are fewer.
        out: Folder of runs and of the journal.
        command: Command line, recorded in the runs.
        finished: Called with (combinations tried, combinations to be tried in all).

    Raises:
        SweepError: Optuna is not installed, or the grid cannot be searched.
        TierError: As for `tier4k.heads.sweeps.run.run_sweep`. Every value is checked before the first fit,
            combinations of values when they are tried.
    """
    space = _SearchSpace(manifest, features, grid, base, _searched_values(grid))
    study_name = space.checked_name()
    require_writable(out)
    study = _open_study(out / JOURNAL, study_name)

    def fit(combination: Combination) -> TriedCombination:
        """Fit the runs of one combination, or read them."""
        return _summarize(combination, fit_plans(space.plans(combination), out, command))

    # This also fits runs that were deleted since.
    tried = [fit(trial.params) for trial in study.trials if trial.value is not None]
    total = max(len(tried), min(count, space.size))
    while len(tried) < total:
        finished(len(tried), total)
        seed = base.options.seed + len(study.trials)
        trial = _new_trial(study, space.values, [combination.chosen for combination in tried], seed)
        tried.append(fit(trial.params))
        study.tell(trial, tried[-1].rank)
    finished(total, total)
    return sorted(tried, key=lambda combination: combination.rank, reverse=True)


def _searched_values(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the distinct values of each option that the grid has several values of.

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


@dataclass(frozen=True)
class _SearchSpace:
    """Every combination of the searched values of a grid.

    Attributes:
        values: Distinct values of each option that the grid has several values of.
    """

    manifest: Manifest
    features: Path
    grid: Mapping[str, Any]
    base: Cell
    values: dict[str, list[Any]]

    @property
    def size(self) -> int:
        """Number of combinations."""
        return math.prod(map(len, self.values.values()))

    def plans(self, combination: Combination) -> list[Plan]:
        """Plan the runs of one combination, one for each target."""
        cells, _ = grid_cells({**self.grid, **combination}, self.manifest, self.base)
        if not cells:
            raise SweepError(
                "full reference (fr) needs an image prompt in every row: leave fr out of the grid, or use "
                "benchmark = 'I2I'"
            )
        return plan_cells(self.manifest, self.features, cells)

    def checked_name(self) -> str:
        """Check the grid; return a name that is equal only for searches of the same values on the same data.

        Plans a combination with every value, so that wrong values end the search before the first fit.
        """
        plans: list[Plan] = []
        for combination in self._each_value_once():
            plans += self.plans(combination)
        if len({plan.config.benchmark for plan in plans}) > 1:
            raise SweepError(
                "a search compares results on the same rows, but the methods' default benchmarks differ: "
                "add one benchmark to the grid, such as benchmark = 'I2I'"
            )
        runs = [plan.config.id for plan in plans]
        content = json.dumps([self.values, runs], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def _each_value_once(self) -> list[dict[str, Any]]:
        """Combine all first values; and each other value of an option with the first values of all others."""
        first = {name: values[0] for name, values in self.values.items()}
        combinations = [first]
        for name, values in self.values.items():
            combinations += [first | {name: value} for value in values[1:]]
        return combinations


def _summarize(combination: Combination, runs: Sequence[Run]) -> TriedCombination:
    held_out = []
    for run in runs:
        for target in run.results.summaries:
            srcc = run.results.held_out_srcc.get(target)
            if srcc is None:
                raise SweepError(
                    f"{runs[0].folder} ({runs[0].results.estimator}) held no rows out of training, but a "
                    f"search evaluates its trials on such rows: {REMEDY}"
                )
            held_out.append(srcc)
    return TriedCombination(dict(combination), list(runs), float(np.mean(held_out)))


def _open_study(journal: Path, name: str) -> "Study":
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise SweepError("--search needs Optuna: run pip install 'tier4k[search]'") from error
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise SweepError(
            f"{journal} cannot be read as the journal of a search ({error}): "
            "delete the file to start a new search"
        ) from error


def _new_trial(
    study: "Study",
    values: Mapping[str, Sequence[Any]],
    tried: Sequence[Combination],
    seed: int,
) -> "Trial":
    """Return a trial of a new combination: Optuna's proposal, or a random one if that was tried before."""
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    choices = {name: CategoricalDistribution(options) for name, options in values.items()}
    study.sampler = TPESampler(seed=seed)
    trial = study.ask(dict(choices))
    if trial.params not in tried:
        return trial
    study.tell(trial, state=TrialState.FAIL)
    study.enqueue_trial(_random_combination(values, tried, random.Random(seed)))
    return study.ask(dict(choices))


def _random_combination(
    values: Mapping[str, Sequence[Any]],
    tried: Sequence[Combination],
    draw: random.Random,
) -> dict[str, Any]:
    """Draw a random combination that was not tried before."""
    while True:
        combination = {name: draw.choice(options) for name, options in values.items()}
        if combination not in tried:
            return combination
