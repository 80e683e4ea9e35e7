"""A nested search: every repeat chooses among random combinations of a grid without its test rows.

For every repeat a selection part is cut out of its training and validation rows. Every candidate is fitted on
the rest and evaluated on this one part, by an ordinary run on inner splits. The best candidate of the repeat
is fitted again on all of its training rows and evaluated on its test rows. The result is one run, whose value
is an estimate for the whole procedure, search included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.datasets.streams import ALL
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.plugins.identity import Plugin
from tier4k.heads.data.encoder_choice import ImageEncoders
from tier4k.heads.data.features import FeatureSet, rows_without_features
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import TEST_SHARE, Split, with_seeds
from tier4k.heads.evaluation.nested import choose
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.trial import Choice, Trial, headline
from tier4k.heads.protocol.fit import load_fused
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.publish import publish_run
from tier4k.heads.results.config import SEARCH, SEVERAL, Environment, RunConfig
from tier4k.heads.results.find_run import finished_run, stored_run
from tier4k.heads.results.layout import CANDIDATES
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.write import require_writable
from tier4k.heads.sweeps.blocks import Block, Grid, as_blocks, with_streams
from tier4k.heads.sweeps.candidates import Candidate, plan_candidates, searched_values
from tier4k.heads.sweeps.grid import WITHOUT_HEADS, Cell
from tier4k.heads.sweeps.plans import plan_cells
from tier4k.heads.sweeps.run import run_plans


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        run: The run of the procedure; `results.chosen` has what every repeat chose.
        candidates: The candidates, in the order in which ties are resolved.
        left_out: Number of drawn combinations that no run can have, by the reason.
    """

    run: Run
    candidates: Sequence[Candidate]
    left_out: Mapping[str, int]

    def most_chosen(self, target: str) -> Candidate:
        """Return the candidate that most repeats chose for a target; of equal ones, the first."""
        chosen = self.run.results.chosen[target]
        return max(self.candidates, key=lambda candidate: chosen.count(candidate.text))


def search(
    manifest: Manifest,
    grid: Grid,
    count: int,
    features: str | Path = "features",
    out: str | Path = "runs",
    *,
    image_encoder: ImageEncoders | None = None,
    text_encoder: str | Sequence[str] | None = None,
    encoder: str | ImageChoice | None = None,
    streams: str = ALL,
    options: FitOptions = WITHOUT_HEADS,
    jobs: int = 1,
    command: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Search:
    """Choose for every repeat and target among random combinations of a grid's values, and test the choices.

    Every repeat chooses without its test rows, so that the result, one run, is an estimate for the whole
    procedure. It keeps no heads. A killed or a larger search finds the runs of its candidates.

    Args:
        manifest: The data set, from `load_manifest`.
        grid: As for `tier4k.sweep`. The search chooses from its lists, except from `target`: every target has
            choices of its own.
        count: Number of combinations to try; all combinations are tried if there are fewer.
        features: Folder of stores; those of all combinations must exist.
        out: Folder of runs.
        image_encoder: Image encoders of combinations for which the grid names none.
        text_encoder: Text encoders of these combinations.
        encoder: Image and text encoder in one of these combinations.
        streams: Streams of a grid that names none, such as "image+text".
        options: Options that the grid does not name, for example the split.
        jobs: Number of processes; the result is the same for any number.
        command: Command line, which is recorded in the runs.
        progress: Called with (heads fitted or found, heads in all).

    Returns:
        The search: `run` is its result, `run.results.chosen` has what every repeat chose.

    Raises:
        SweepError: The grid cannot be searched.
        TierError: As for `tier4k.sweep`. All candidates are checked before the first fit.
    """
    blocks = with_streams(as_blocks(grid), streams)
    base = Cell.of(image_encoder, text_encoder, encoder, options)
    return run_search(manifest, Path(features), blocks, base, count, Path(out), command, jobs, progress)


def run_search(
    manifest: Manifest,
    features: Path,
    blocks: Sequence[Block],
    base: Cell,
    count: int,
    out: Path,
    command: Sequence[str] = (),
    jobs: int = 1,
    finished: Progress = no_progress,
) -> Search:
    """Search, given the cell that all candidates start from; see `search`.

    The runs of the candidates are in a folder of their own in the folder of runs.

    Args:
        manifest: The data set.
        features: Folder of stores.
        blocks: As for `tier4k.heads.sweeps.grid.block_cells`. The search chooses from its lists, except from
            `target`: every target has choices of its own.
        base: Options that the grid does not name.
        count: Number of combinations to try; all combinations are tried if there are fewer.
        out: Folder of runs.
        command: Command line, recorded in the runs.
        jobs: Number of processes that fit candidates.
        finished: Called with (heads fitted or found, heads in all).

    Raises:
        SweepError: The grid cannot be searched.
        TierError: As for `tier4k.heads.sweeps.run.run_sweep`. All candidates are checked before the first
            fit.
    """
    candidates, left_out = plan_candidates(manifest, features, blocks, base, count)
    request = candidates[0].cell.options.split_request(candidates[0].plan.manifest)
    config = _config(candidates, blocks, request)
    if stored := finished_run(out, config):
        return Search(read_run(stored), candidates, left_out)
    require_writable(out)
    rows = rows_without_features(candidates[0].plan.manifest)
    # Without validation parts: each head cuts its own out of training.
    splits = with_seeds(request.splits(rows, validation=0.0), config.seeds)
    refits = len(config.targets) * len(splits)
    plans = [candidate.plan for candidate in candidates]
    missing = sum(plan.fits for plan in plans if stored_run(out / CANDIDATES, plan.config) is None)

    def count_on(before: int) -> Progress:
        """Return a listener of one part of the work, before which `before` heads were fitted."""
        return lambda done, _: finished(before + done, missing + refits)

    runs = list(run_plans(plans, out / CANDIDATES, command, jobs, count_on(0)))
    choices = _choose(candidates, runs, config.targets)
    trials = _refit(manifest, features, candidates, choices, rows, splits, count_on(missing))
    run = publish_run(out, config, candidates[0].plan.manifest, command, rows, trials, splits)
    return Search(run, candidates, left_out)


@dataclass(frozen=True)
class _Chosen:
    """The candidate that one repeat chose for one target.

    Attributes:
        target, repeat: The target and the repeat.
        number: Number of the candidate.
        choice: Its options and selection SRCC, for the results.
    """

    target: str
    repeat: int
    number: int
    choice: Choice


def _config(
    candidates: Sequence[Candidate],
    blocks: Sequence[Block],
    request: SplitRequest,
) -> RunConfig:
    """Return the configuration of the search, which holds everything that its values depend on."""
    first = candidates[0].plan.config
    values = searched_values(blocks)
    grid = values[0] if len(values) == 1 else values
    tried = [[one.text, one.plan.config.digest] for one in candidates]
    return replace(
        first,
        method=_common([one.plan.config.method for one in candidates], SEVERAL),
        streams=_common([one.plan.config.streams for one in candidates], (SEVERAL,)),
        stages=_common([one.plan.config.stages for one in candidates], (SEVERAL,)),
        signatures=_signatures(candidates),
        templates=max(one.plan.config.templates for one in candidates),  # equal, or empty without them
        split=request.name,
        estimator=SEARCH,
        head={"grid": grid, "selection_share": TEST_SHARE, "candidates": tried},
        head_defaults=(),
        plugins=_plugins(candidates),
        environment=Environment(device=", ".join(sorted({one.plan.device for one in candidates}))),
    )


def _common(values: Sequence[Any], several: Any) -> Any:
    """Return the value of all candidates, or `several` where they differ."""
    return values[0] if all(value == values[0] for value in values) else several


def _plugins(candidates: Sequence[Candidate]) -> tuple[Plugin, ...]:
    """Return what the candidates use of other packages, each once."""
    used = [plugin for one in candidates for plugin in one.plan.config.plugins]
    return tuple(dict.fromkeys(used))


def _signatures(candidates: Sequence[Candidate]) -> dict[str, Signature]:
    """Return the signatures of all stores, each once; those of one name are numbered from the second on."""
    by_name: dict[str, list[Signature]] = {}
    known: set[Signature] = set()
    for candidate in candidates:
        for name, signature in candidate.plan.config.signatures.items():
            if signature not in known:
                by_name.setdefault(name, []).append(signature)
            known.add(signature)
    signatures = {}
    for name, of_name in by_name.items():
        for number, signature in enumerate(of_name, start=1):
            signatures[name if number == 1 else f"{name} {number}"] = signature
    return signatures


def _choose(
    candidates: Sequence[Candidate],
    runs: Sequence[Run],
    targets: Sequence[str],
) -> list[_Chosen]:
    """Choose a candidate for every target and repeat, by the runs of the candidates on the inner splits."""
    results = {run.results.digest: run.results for run in runs}
    own_results = [results[candidate.plan.config.digest] for candidate in candidates]
    choices = []
    for target in targets:
        srcc = np.array([own.summaries[target][own.headline]["srcc"].values for own in own_results])
        for repeat, number in enumerate(choose(srcc)):
            choice = Choice(candidates[number].text, float(srcc[number, repeat]))
            choices.append(_Chosen(target, repeat, int(number), choice))
    return choices


def _refit(
    manifest: Manifest,
    features: Path,
    candidates: Sequence[Candidate],
    choices: Sequence[_Chosen],
    rows: FeatureSet,
    splits: Sequence[Split],
    finished: Progress,
) -> list[Trial]:
    """Fit every chosen candidate on the whole training part of its repeat; return one trial per choice."""
    numbers = sorted({chosen.number for chosen in choices})
    plans = plan_cells(manifest, features, [candidates[number].cell for number in numbers])
    trials: dict[tuple[str, int], Trial] = {}
    for number, plan in zip(numbers, plans, strict=True):
        loaded, fused = load_fused(plan)
        for target in plan.config.targets:
            own = [one for one in choices if one.number == number and one.target == target]
            if not own:
                continue
            own_splits = [plan.splits[one.repeat] for one in own]
            fitted = run_trials(
                loaded, fused, [target], own_splits, plan.estimator, plan.config.head, device=plan.device
            )
            for one, trial in zip(own, fitted, strict=True):
                trials[target, one.repeat] = _tested(rows, splits[one.repeat], one, trial)
            finished(len(trials), len(choices))
    return [trials[one.target, one.repeat] for one in choices]


def _tested(
    rows: FeatureSet,
    split: Split,
    chosen: _Chosen,
    fitted: Trial,
) -> Trial:
    """Return the trial of the search: the result of a fitted head as its only selection, without the head."""
    predictions = {"last": fitted.predictions[headline(fitted.predictions)]}
    trial = Trial.evaluated(rows, chosen.target, chosen.repeat, split, predictions)
    return replace(trial, seconds=fitted.seconds, choice=chosen.choice)
