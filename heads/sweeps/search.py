"""A search through a grid by Optuna, which learns from the runs so far which combination to try next.

What is made as large as it can be is the SRCC on rows that were held out of training, never a figure of the test rows.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.protocol.fit import fit_plans
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.protocol.publish import Run
from tier4k.heads.results.files import require_writable
from tier4k.heads.sweeps.grid import Cell, SweepError, grid_cells
from tier4k.heads.sweeps.run import plan_cells

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial


JOURNAL = "search.journal"

# What says on which rows a figure is measured, or of which scores: figures of different ones say nothing of what is better.
PROTOCOL = ("benchmark", "split", "repeats", "folds", "seed", "seeds")

REMEDY = "leave out svr, which has none, --recipe published and validation_fraction = 0"


@dataclass(frozen=True)
class Tried:
    """A combination of a grid's values, and the runs of its targets.

    Attributes:
        chosen: The values of what the grid has several of.
        runs: One for each target.
        figure: Mean over targets and repeats of the SRCC on rows held out of training.
    """

    chosen: dict[str, Any]
    runs: list[Run]
    figure: float


def search(
    manifest: Manifest,
    features: Path,
    grid: Mapping[str, Any],
    base: Cell,
    count: int,
    out: Path,
    command: Sequence[str] = (),
    finished: Callable[[int, int], None] = lambda *_: None,
) -> list[Tried]:
    """Try so many combinations of a grid's values, each once, and tell of all, the best first.

    Trials stand in a journal in the folder of runs: the same search goes on where it was, with what is left of `count`.

    Args:
        manifest: The data set.
        features: Folder of stores.
        grid: As of `tier4k.heads.sweeps.grid.grid_cells`; its lists are what is chosen from, but for `target`, whose figures are averaged.
        base: What the grid does not name.
        count: Combinations to try; all of them where there are no more.
        out: Folder of runs and of the journal.
        command: Command line, recorded.
        finished: Called with (combinations tried, combinations to be tried in all).

    Raises:
        SweepError: Optuna is not installed, or the grid cannot be searched.
        TierError: As of `tier4k.heads.sweeps.run.run_sweep`; combinations that no single value tells of are found out when they are tried.
    """
    space = {
        name: list(dict.fromkeys(values))
        for name, values in grid.items()
        if isinstance(values, list) and name != "target"
    }
    if several := [name for name in PROTOCOL if len(space.get(name, ())) > 1]:
        raise SweepError(
            f"a search compares figures of the same rows, but the grid has several of {', '.join(several)}: give one"
        )
    space = {name: values for name, values in space.items() if len(values) > 1}
    first = {name: values[0] for name, values in space.items()}
    ways = [first, *(first | {name: value} for name, values in space.items() for value in values[1:])]
    plans = [_plans(manifest, features, grid, base, way) for way in ways]
    if len({plan.config.benchmark for some in plans for plan in some}) > 1:
        raise SweepError(
            "a search compares figures of the same rows, but the methods' benchmarks differ: give one, such as benchmark = 'I2I'"
        )
    require_writable(out)
    study = _study(out / JOURNAL, _name(space, plans))

    def fit(way: Mapping[str, Any]) -> Tried:
        return _fitted(way, fit_plans(_plans(manifest, features, grid, base, way), out, command))

    # Runs that were deleted since are fitted again.
    tried = [fit(trial.params) for trial in study.trials if trial.value is not None]
    total = max(len(tried), min(count, math.prod(map(len, space.values()))))
    while len(tried) < total:
        finished(len(tried), total)
        trial = _new_trial(study, space, [one.chosen for one in tried], base.options.seed + len(study.trials))
        tried.append(fit(trial.params))
        study.tell(trial, _rank(tried[-1]))
    finished(total, total)
    return sorted(tried, key=_rank, reverse=True)


def _rank(one: Tried) -> float:
    # Optuna knows no NaN; what has no figure is never the best.
    return one.figure if math.isfinite(one.figure) else -math.inf


def _plans(
    manifest: Manifest, features: Path, grid: Mapping[str, Any], base: Cell, way: Mapping[str, Any]
) -> list[Plan]:
    """The runs of one combination, one for each target."""
    cells, _ = grid_cells({**grid, **way}, manifest, base)
    if not cells:
        raise SweepError(
            "full reference (fr) needs an image prompt in every row: leave it out, or search with benchmark = 'I2I'"
        )
    return plan_cells(manifest, features, cells)


def _fitted(way: Mapping[str, Any], runs: Sequence[Run]) -> Tried:
    of_targets = [run.results.held_out_srcc.get(target) for run in runs for target in run.results.summaries]
    known = [values for values in of_targets if values is not None]
    if len(known) < len(of_targets):
        head = runs[0].results.estimator
        raise SweepError(
            f"{runs[0].folder} ({head}) held no rows out of training, by which a search could judge: {REMEDY}"
        )
    return Tried(dict(way), list(runs), float(np.mean(known)))


def _study(journal: Path, name: str) -> "Study":
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise SweepError("--search needs Optuna: pip install 'tier4k[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise SweepError(
            f"{journal} cannot be read as the journal of a search ({error}): delete it to search anew"
        ) from error


def _name(space: Mapping[str, Sequence[Any]], plans: Sequence[Sequence[Plan]]) -> str:
    """The same for a search of the same values on the same data by the same program, and for no other."""
    runs = [plan.config.id for some in plans for plan in some]
    return hashlib.sha256(json.dumps([dict(space), runs], sort_keys=True).encode()).hexdigest()[:10]


def _new_trial(
    study: "Study", space: Mapping[str, Sequence[Any]], tried: Sequence[Mapping[str, Any]], seed: int
) -> "Trial":
    """A trial of a combination that was not tried yet: Optuna's proposal, or a random one where it comes back to what is known."""
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    choices = {name: CategoricalDistribution(values) for name, values in space.items()}
    study.sampler = TPESampler(seed=seed)
    trial = study.ask(dict(choices))
    if trial.params not in tried:
        return trial
    study.tell(trial, state=TrialState.FAIL)
    draw = random.Random(seed)
    while (way := {name: draw.choice(values) for name, values in space.items()}) in tried:
        pass
    study.enqueue_trial(way)
    return study.ask(dict(choices))
